"""How much noise training adds, and noise that is drawn by seed.

In training ln(sigma) is normally distributed (Karras et al. 2022, section 5 and table 1, P_mean and P_std).
The published GeNVS models used three such distributions, by the names below, and moved from one to another.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, Field
from torch import Tensor

LevelName = Literal["low", "mid", "high"]
WORD = (1 << 64) - 1  # splitmix64 calculates modulo 2^64


@dataclass(frozen=True)
class NoiseLevel:
    """Distribution of ln(sigma)."""

    mean: float
    std: float


LEVELS = {"low": NoiseLevel(-1.2, 1.2), "mid": NoiseLevel(0.5, 1.4), "high": NoiseLevel(1.0, 1.4)}


class NoiseConfig(BaseModel, frozen=True, extra="forbid"):
    """Noise levels of training: `start`, or the way from `start` to `end` during the first `anneal_steps`."""

    start: LevelName = "mid"
    end: LevelName | None = None  # None: stay at the start
    anneal_steps: int = Field(
        100_000, ge=1
    )  # of training steps; not a fraction, so that a run can be lengthened


def level_at(config: NoiseConfig, step: int) -> NoiseLevel:
    """Distribution of ln(sigma) at training step `step`; mean and std move linearly, then stay."""
    start, end = LEVELS[config.start], LEVELS[config.end or config.start]
    fraction = min(1.0, step / config.anneal_steps)
    return NoiseLevel(
        mean=(1 - fraction) * start.mean + fraction * end.mean,
        std=(1 - fraction) * start.std + fraction * end.std,
    )


def sigma_from_normal(normal: Float[Tensor, "*batch"], level: NoiseLevel) -> Float[Tensor, "*batch"]:
    """Standard normal numbers to noise levels sigma = exp(mean + std * normal)."""
    return (level.mean + level.std * normal).exp()


def normal(seeds: Int[Tensor, "n"], shape: Sequence[int], *, stream: int | str) -> Float[Tensor, "n ..."]:
    """Standard normal numbers, `shape` of them for each seed, as float32 on the device of `seeds`.

    What a seed gives depends on the seed, the stream and the shape alone: not on the other seeds of the
    batch, the device, or numbers drawn before. Streams keep different uses of one seed independent. (torch's
    CPU generator heeds 32 bits of the derived seed, so among some 100,000 draws a few pairs will be equal.)
    """
    return _draw(torch.randn, seeds, shape, stream)


def uniform(seeds: Int[Tensor, "n"], shape: Sequence[int], *, stream: int | str) -> Float[Tensor, "n ..."]:
    """Numbers evenly distributed over [0, 1), otherwise like `normal`."""
    return _draw(torch.rand, seeds, shape, stream)


def derived_seed(seed: int, stream: int | str) -> int:
    """A seed in 0 .. 2^63 - 1 for one use of `seed`: splitmix64(seed + splitmix64(stream)).

    The name of a stream stands for the first 8 bytes of its SHA-256. splitmix64 (Steele, Lea and Flood 2014)
    makes unrelated numbers of neighbouring ones, which seeds and streams usually are.
    """
    if isinstance(stream, str):
        stream = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")
    return _splitmix64(seed + _splitmix64(stream)) >> 1


def _draw(function, seeds: Tensor, shape: Sequence[int], stream: int | str) -> Tensor:
    # On the CPU whatever the device: generators of other devices give other numbers for the same seed.
    generators = [torch.Generator().manual_seed(derived_seed(seed, stream)) for seed in seeds.tolist()]
    drawn = [function(tuple(shape), generator=generator) for generator in generators]
    return torch.stack(drawn).to(seeds.device) if drawn else torch.empty(0, *shape, device=seeds.device)


def _splitmix64(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31)


def view_seeds(seeds: Int[Tensor, "b"], num: int) -> Int[Tensor, "bt"]:
    """A seed for each of `num` views of every scene."""
    return torch.tensor([derived_seed(seed, view) for seed in seeds.tolist() for view in range(num)])
