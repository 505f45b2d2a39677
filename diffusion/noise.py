"""Noise levels in training.

In training ln(sigma) is normally distributed (Karras et al. 2022, section 5 and table 1, P_mean and P_std).
The published GeNVS models used three such distributions, named below, and moved from one to another.
"""

from typing import Annotated, Any, Literal

from jaxtyping import Float
from pydantic import BaseModel, Field, WrapValidator
from torch import Tensor

from data.schedule import Span, mix

LevelName = Literal["low", "mid", "high"]


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
    """Noise levels of training: `start`, or a transition from `start` to `end` over the span."""

    start: Level = Field("mid", description="low, mid, high, or mean and std of ln(sigma)")
    end: Level | None = Field(None, description="likewise; null: keep `start`")

    @property
    def levels(self) -> tuple[NoiseLevel, NoiseLevel]:
        """Return the distributions at the start and at the end."""
        start, end = (
            LEVELS[level] if isinstance(level, str) else level
            for level in (self.start, self.start if self.end is None else self.end)
        )
        return start, end

    def changing_at(self, progress: float) -> dict[str, float]:
        """Return the current mean and standard deviation, as far as they change."""
        start, end = self.levels
        return {
            f"_{name}": value
            for name, value in level_at(self, progress)
            if getattr(start, name) != getattr(end, name)
        }


def level_at(config: NoiseConfig, progress: float) -> NoiseLevel:
    """Return the distribution of ln(sigma) at a progress from 0 to 1; mean and std change linearly."""
    (start, end), done = config.levels, config.done_at(progress)
    return NoiseLevel(mean=mix(start.mean, end.mean, done), std=mix(start.std, end.std, done))


def sigma_from_normal(normal: Float[Tensor, "*batch"], level: NoiseLevel) -> Float[Tensor, "*batch"]:
    """Map standard normal numbers to noise levels sigma = exp(mean + std * normal)."""
    return (level.mean + level.std * normal).exp()
