"""The layer that both networks of XFactor are made of, and its small parts.

Axes: n sequences, v views, l tokens of a view, c features, h heads, d channels of a head.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

HEAD_EPS, NORM_EPS = 1e-5, 1e-6


@dataclass(frozen=True)
class Rotation:
    """Rotary positions of the tokens of a view, the same in every view."""

    cos: Float[Tensor, "n l d"]
    sin: Float[Tensor, "n l d"]

    def __call__(self, heads: Float[Tensor, "n h v l d"]) -> Float[Tensor, "n h v l d"]:
        """Turn neighbouring channels, pair by pair."""
        turned = torch.stack([-heads[..., 1::2], heads[..., ::2]], dim=-1).flatten(-2)
        return heads * self.cos[:, None, None] + turned * self.sin[:, None, None]


def rotation(places: Int[Tensor, "n l 2"], head_size: int) -> Rotation:
    """Rotary positions of tokens at (row, column); those at row -1 are not turned.

    The first half of the channels follows the row, the second half the column. `head_size` divides by 4.
    """
    num = head_size // 4
    exponents = torch.arange(num, device=places.device, dtype=torch.float32) / num
    angles = places[..., None].clamp_min(0) * 10000.0**-exponents
    angles = angles.repeat_interleave(2, dim=-1).flatten(-2)
    return Rotation(angles.cos(), angles.sin())


class HeadNorm(nn.Module):
    """Root-mean-square norm over the channels of a head, with a gain per head and channel."""

    def __init__(self, num_heads: int, head_size: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(num_heads, head_size))

    def forward(self, heads: Float[Tensor, "n h v l d"]) -> Float[Tensor, "n h v l d"]:
        heads = heads.float()
        scale = (heads.square().mean(dim=-1, keepdim=True) + HEAD_EPS).rsqrt()
        return heads * scale * self.gain[:, None, None]


class LayerScale(nn.Module):
    """A gain per feature, small at the beginning."""

    def __init__(self, width: int, start: float):
        super().__init__()
        self.gain = nn.Parameter(torch.full((width,), start))

    def forward(self, features: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c"]:
        return features * self.gain


class MLP(nn.Sequential):
    """Linear layers with the tanh approximation of GELU between them."""

    def __init__(self, *sizes: int):
        layers: list[nn.Module] = []
        for given, wanted in pairwise(sizes):
            layers += [nn.Linear(given, wanted), nn.GELU(approximate="tanh")]
        super().__init__(*layers[:-1])


class Layer(nn.Module):
    """Attention over all views and within each, side by side, then an MLP; both are residual.

    All tokens of a sequence see each other: groups that must not are given as sequences of their own
    (`models.xfactor.masks`), which costs less than a mask.
    """

    def __init__(self, width: int, num_heads: int, *, scale: float, bf16_attention: bool):
        super().__init__()
        head_size = width // num_heads
        self.num_heads, self.bf16_attention = num_heads, bf16_attention
        self.attention_norm = nn.LayerNorm(width, eps=NORM_EPS, bias=False)
        self.project = nn.Linear(width, 6 * width, bias=False)
        # Of the query and the key over all views, then of both within each.
        self.head_norms = nn.ModuleList(HeadNorm(num_heads, head_size) for _ in range(4))
        self.merge = nn.Linear(2 * width, width)
        self.attention_scale = LayerScale(width, scale)
        self.mlp_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, 4 * width, width)
        self.mlp_scale = LayerScale(width, scale)

    def forward(self, tokens: Float[Tensor, "n v l c"], rotation: Rotation) -> Float[Tensor, "n v l c"]:
        """The tokens after this layer."""
        num_views = tokens.shape[1]
        parts = self.project(self.attention_norm(tokens)).unflatten(-1, (6, self.num_heads, -1))
        query, key, value, own_query, own_key, own_value = parts.permute(3, 0, 4, 1, 2, 5)
        query, key, own_query, own_key = (
            rotation(norm(part))
            for norm, part in zip(self.head_norms, (query, key, own_query, own_key), strict=True)
        )
        across = self._attend(*(part.flatten(2, 3) for part in (query, key, value)))
        across = across.unflatten(2, (num_views, -1)).permute(0, 2, 3, 1, 4).flatten(-2)
        own = (part.transpose(1, 2).flatten(0, 1) for part in (own_query, own_key, own_value))
        within = self._attend(*own).unflatten(0, (-1, num_views)).transpose(2, 3).flatten(-2)
        tokens = tokens + self.attention_scale(self.merge(torch.cat([across, within], dim=-1)))
        hidden = F.gelu(self.mlp_norm(tokens), approximate="tanh")
        return tokens + self.mlp_scale(self.mlp(hidden))

    def _attend(
        self, query: Float[Tensor, "n h l d"], key: Float[Tensor, "n h l d"], value: Float[Tensor, "n h l d"]
    ) -> Float[Tensor, "n h l d"]:
        kind = torch.bfloat16 if self.bf16_attention else value.dtype
        found = F.scaled_dot_product_attention(query.to(kind), key.to(kind), value.to(kind))
        return found.to(value.dtype)
