"""How much noise training adds, and noise that is drawn by seed.

In training ln(sigma) is normally distributed (Karras et al. 2022, section 5 and table 1, P_mean and P_std).
The published GeNVS models used three such distributions, by the names below, and moved from one to another.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, Field, WrapValidator
from torch import Tensor

from data.schedule import Span, mix

LevelName = Literal["low", "mid", "high"]
WORD = (1 << 64) - 1  # splitmix64 calculates modulo 2^64


class NoiseLevel(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Distribution of ln(sigma)."""

    mean: float = Field(description="of ln(sigma)")
    std: float = Field(gt=0, description="standard deviation of ln(sigma)")


LEVELS = {
    "low": NoiseLevel(mean=-1.2, std=1.2),
    "mid": NoiseLevel(mean=0.5, std=1.4),
    "high": NoiseLevel(mean=1.0, std=1.4),
}


def _read_level(value: Any, _: Any) -> Any:
    if isinstance(value, dict):
        return NoiseLevel.model_validate(value)
    if isinstance(value, NoiseLevel) or (isinstance(value, str) and value in LEVELS):
        return value
    raise ValueError('must be "low", "mid", "high" or numbers such as {"mean": 0.5, "std": 1.4}')


Level = Annotated[LevelName | NoiseLevel, WrapValidator(_read_level)]


class NoiseConfig(Span):
    """Noise levels of training: `start`, or the way from `start` to `end` in the span of the run."""

    start: Level = Field("mid", description="low, mid, high, or mean and std of ln(sigma)")
    end: Level | None = Field(None, description="the same; null: stay at the start")

    @property
    def levels(self) -> tuple[NoiseLevel, NoiseLevel]:
        """At the beginning and at the end."""
        start, end = (
            LEVELS[level] if isinstance(level, str) else level
            for level in (self.start, self.start if self.end is None else self.end)
        )
        return start, end

    def changing_at(self, progress: float) -> dict[str, float]:
        """Current mean and standard deviation, those of them that change."""
        start, end = self.levels
        return {
            f"_{name}": value
            for name, value in level_at(self, progress)
            if getattr(start, name) != getattr(end, name)
        }


def level_at(config: NoiseConfig, progress: float) -> NoiseLevel:
    """Distribution of ln(sigma) at a progress from 0 to 1; mean and std move linearly."""
    (start, end), done = config.levels, config.done_at(progress)
    return NoiseLevel(mean=mix(start.mean, end.mean, done), std=mix(start.std, end.std, done))


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
