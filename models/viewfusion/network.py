"""ViewFusion's U-Net: one pass sees one view beside the noisy target (Spiegl et al. 2024, arXiv:2402.02906).

The lineage is SR3's (Saharia et al. 2021, arXiv:2104.07636). A pass takes the channels of the view and then
of the noisy target; it gives noise and, with weighting, as many logits. n is passes, of any number of scenes.
"""

import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional


class UNetConfig(BaseModel, frozen=True, extra="forbid"):
    """Size of the U-Net; the defaults are the published one."""

    channels: int = Field(64, ge=4, le=1024, multiple_of=4, description="of the first level")
    multipliers: tuple[int, ...] = Field((1, 2, 3, 5), min_length=1, description="channels of each level")
    blocks: int = Field(3, ge=1, le=16, description="residual blocks of a level")
    attention: tuple[bool, ...] = Field(
        (False, False, True, False), description="whether a level's blocks attend to all pixels"
    )
    groups: int = Field(32, ge=1, description="groups of the normalisation")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of features dropped in a block")

    @model_validator(mode="after")
    def _levels_agree(self) -> "UNetConfig":
        if len(self.attention) != len(self.multipliers):
            raise ValueError(
                f"attention has {len(self.attention)} entries for {len(self.multipliers)} levels; give one "
                "for each of multipliers"
            )
        if min(self.multipliers) < 1 or self.channels % self.groups:
            raise ValueError(
                f"channels {self.channels} must be a multiple of groups {self.groups}, and every entry of "
                "multipliers 1 or more"
            )
        return self

    @property
    def multiple(self) -> int:
        """The number that image sides must be a multiple of."""
        return 2 ** (len(self.multipliers) - 1)


class UNet(nn.Module):
    """Noise and weight logits of one view. `condition_features` describe where the target is seen from."""

    def __init__(self, config: UNetConfig, *, in_channels: int, out_channels: int, condition_features: int):
        super().__init__()
        base, groups = config.channels, config.groups
        noise_features = base // 2
        self.noise_features = noise_features
        self.embedding = nn.Sequential(
            nn.Linear(noise_features + condition_features, 4 * base), nn.SiLU(), nn.Linear(4 * base, base)
        )
        widths = [base * multiplier for multiplier in config.multipliers]
        last = len(widths) - 1

        def layer(c_in: int, c_out: int, attention: bool) -> Layer:
            return Layer(c_in, c_out, base, groups, attention=attention, dropout=config.dropout)

        # Down: what each layer gives is kept for the way up.
        self.down = nn.ModuleList([nn.Conv2d(in_channels, base, 3, padding=1)])
        skips, width = [base], base
        for level, wide in enumerate(widths):
            for _ in range(config.blocks):
                self.down.append(layer(width, wide, config.attention[level]))
                width = wide
                skips.append(width)
            if level < last:
                self.down.append(Downsample(width))
                skips.append(width)
        self.middle = nn.ModuleList([layer(width, width, True), layer(width, width, False)])

        # Up: a level has one block more.
        self.up = nn.ModuleList()
        for level in range(last, -1, -1):
            for _ in range(config.blocks + 1):
                self.up.append(layer(width + skips.pop(), widths[level], config.attention[level]))
                width = widths[level]
            if level:
                self.up.append(Upsample(width))
        self.head = nn.ModuleDict(
            {"norm": nn.GroupNorm(groups, width), "conv": nn.Conv2d(width, out_channels, 3, padding=1)}
        )

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        gamma: Float[Tensor, "n"],
        condition: Float[Tensor, "n f"],
    ) -> Float[Tensor, "n o h w"]:
        """View and noisy target, the share gamma of variance left, and features of the target's angle."""
        noise_level = sinusoids(gamma[:, None], self.noise_features)
        embedding = self.embedding(torch.cat([noise_level, condition], dim=1))
        x, skips = images, []
        for module in self.down:
            x = module(x, embedding) if isinstance(module, Layer) else module(x)
            skips.append(x)
        for module in self.middle:
            x = module(x, embedding)
        for module in self.up:
            if isinstance(module, Layer):
                x = module(torch.cat([x, skips.pop()], dim=1), embedding)
            else:
                x = module(x)
        return self.head["conv"](functional.silu(self.head["norm"](x)))


class Layer(nn.Module):
    """A residual block conditioned on the embedding, optionally followed by attention."""

    def __init__(
        self, c_in: int, c_out: int, c_embedding: int, groups: int, *, attention: bool, dropout: float
    ):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.embed = nn.Linear(c_embedding, c_out)
        self.norm2 = nn.GroupNorm(groups, c_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.attention = Attention(c_out, groups) if attention else nn.Identity()

    def forward(
        self, x: Float[Tensor, "n c h w"], embedding: Float[Tensor, "n e"]
    ) -> Float[Tensor, "n k h w"]:
        """Features of as many pixels."""
        h = self.conv1(functional.silu(self.norm1(x)))
        h = h + self.embed(embedding)[:, :, None, None]
        h = self.conv2(self.dropout(functional.silu(self.norm2(h))))
        return self.attention(h + self.shortcut(x))


class Attention(nn.Module):
    """Every pixel attends to all pixels of its image, with one head."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Add the attention output to the features."""
        size = x.shape[-2:]
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        found = functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.out(found.transpose(1, 2).unflatten(2, size))


class Downsample(nn.Module):
    """Half the side."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c k l"]:
        """By a convolution of stride 2."""
        return self.conv(x)


class Upsample(nn.Module):
    """Twice the side."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c k l"]:
        """Each pixel four times, then a convolution."""
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


def sinusoids(values: Float[Tensor, "n 1"], features: int) -> Float[Tensor, "n f"]:
    """Sines, then cosines, of frequencies 1 to almost 1/10000 (Vaswani et al. 2017, section 3.5)."""
    half = features // 2
    steps = torch.arange(half, device=values.device, dtype=torch.float32) / half
    phases = values.float() * 10_000.0**-steps
    return torch.cat([phases.sin(), phases.cos()], dim=1)
