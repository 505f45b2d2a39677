"""The two networks of XFactor: a pose encoder and a renderer (section 3).

The two halves of the patches must not attend to each other, so each is processed as a separate sequence. This
equals masked attention over all patches, at half the cost.
Axes: b scene, v view, s given view, l patch, p number of a pose, c feature.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.xfactor.config import NetworkConfig
from models.xfactor.layers import MLP, NORM_EPS, Layer, Rotation, rotation
from models.xfactor.masks import Halves, grid_places, patchify, unpatchify

TOKEN_STD, BIAS_STD = 0.02, 1e-6


class Transformer(nn.Module):
    """Layers one after the other."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.recompute = config.checkpoint
        options = {"scale": config.layer_scale, "bf16_attention": config.bf16_attention}
        self.layers = nn.ModuleList(
            Layer(config.width, config.heads, **options) for _ in range(config.layers)
        )

    def forward(self, tokens: Float[Tensor, "n v l c"], places: Rotation) -> Float[Tensor, "n v l c"]:
        for layer in self.layers:
            if self.recompute and torch.is_grad_enabled():
                tokens = checkpoint(layer, tokens, places, use_reentrant=False)
            else:
                tokens = layer(tokens, places)
        return tokens


class PoseEncoder(nn.Module):
    """Latent poses of frames relative to the first one, whose own is zero."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Linear(3 * config.patch**2, config.width)
        self.pose_tokens = nn.Parameter(TOKEN_STD * torch.randn(config.pose_tokens, config.width))
        self.transformer = Transformer(config)
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.head = MLP(2 * config.width, 4 * config.width, config.width, config.pose_size)

    def forward(
        self, frames: Float[Tensor, "b v 3 h w"], halves: Halves | None = None
    ) -> Float[Tensor, "b v g p"]:
        """Poses by each half of the patches, g = 2; without halves by all of them, g = 1."""
        return self.head_of(self.features(frames, halves))

    def head_of(self, features: Float[Tensor, "b v g c"]) -> Float[Tensor, "b v g p"]:
        """Poses from what `features` found."""
        first = features[:, :1].expand_as(features)
        return self.head(torch.cat([features, first], -1)) - self.head(torch.cat([first, first], -1))

    def features(
        self, frames: Float[Tensor, "b v 3 h w"], halves: Halves | None = None
    ) -> Float[Tensor, "b v g c"]:
        """What each half of the patches of a frame says of its pose, all frames seen together."""
        tokens = self.embed(patchify(frames, self.config.patch))
        rows, columns = (size // self.config.patch for size in frames.shape[-2:])
        places = grid_places(rows, columns, frames.device).expand(len(frames), -1, -1)
        tokens, places = _apart(tokens, places, halves)
        own = self.pose_tokens.to(tokens.dtype).expand(*tokens.shape[:2], -1, -1)
        nowhere = places.new_full((len(places), own.shape[2], 2), -1)
        places = rotation(torch.cat([places, nowhere], dim=1), self.config.width // self.config.heads)
        found = self.transformer(torch.cat([tokens, own], dim=2), places)[:, :, tokens.shape[2]]
        found = F.gelu(self.norm(found), approximate="tanh")
        return found.unflatten(0, (len(frames), -1)).transpose(1, 2)


class Renderer(nn.Module):
    """A view from frames with poses, and the pose of the view."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        values = 3 * config.patch**2
        self.embed = MLP(values + config.pose_size, 4 * config.width, config.width)
        self.embed_target = MLP(config.pose_size, 4 * config.width, config.width)
        self.transformer = Transformer(config)
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.head = MLP(config.width, 4 * config.width, config.width, values)

    def forward(
        self,
        given: Float[Tensor, "b s 3 h w"],
        poses: Float[Tensor, "b s g p"],
        target: Float[Tensor, "b g p"],
        halves: Halves | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        """The view in (-1, 1). With halves, each uses its own poses, g = 2; without, g = 1."""
        rows, columns = (size // self.config.patch for size in given.shape[-2:])
        places = grid_places(rows, columns, given.device).expand(len(given), -1, -1)
        patches, places = _apart(patchify(given, self.config.patch), places, halves)
        poses = poses.transpose(1, 2).flatten(0, 1)[:, :, None].expand(-1, -1, patches.shape[2], -1)
        target = target.flatten(0, 1)[:, None, None].expand(-1, -1, patches.shape[2], -1)
        tokens = torch.cat([self.embed(torch.cat([patches, poses], -1)), self.embed_target(target)], dim=1)
        turned = rotation(places, self.config.width // self.config.heads)
        found = self.transformer(tokens, turned)[:, -1:]
        values = self.head(F.gelu(self.norm(found), approximate="tanh"))
        values = values if halves is None else halves.unite(values)
        return unpatchify(2 * values[:, 0].float().sigmoid() - 1, rows, columns)


def initialise(network: nn.Module) -> None:
    """Xavier's uniform weights, and biases close to zero, as published."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=BIAS_STD)


def _apart(tokens: Tensor, places: Tensor, halves: Halves | None) -> tuple[Tensor, Tensor]:
    """Tokens and their places, each half as a sequence of its own."""
    if halves is None:
        return tokens, places
    return halves.divide(tokens), halves.divide(places[:, None].float())[:, 0].long()
