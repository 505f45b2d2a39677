"""Warnings about a run that goes wrong: a table of symptoms, each with a remedy."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

PATIENCE = 2  # consecutive values that must show a symptom
RECENT, FEWEST = 50, 10  # maximum and minimum number of earlier gradient norms to compare with


@dataclass(frozen=True)
class Check:
    """A symptom in a figure of the log."""

    figure: str
    shown_by: Callable[[float], bool]
    sentence: str  # the problem and its remedy, with a placeholder for the figure


CHECKS = (
    Check(
        "health/opacity_object",
        lambda share: share < 0.02,
        "the volumes are empty (opacity {:.3f} where the objects are): lower model.loss.opacity, raise "
        "model.loss.rgb, or raise model.renderer.field.density_scale",
    ),
    Check(
        "health/opacity_background",
        lambda share: share > 0.95,
        "the volumes are full (opacity {:.3f} where only background is): raise model.loss.opacity, or "
        "model.loss.opacity_supervised where the data knows shapes",
    ),
    Check(
        "health/near_plane",
        lambda share: share > 0.8,
        "surfaces stick to the near plane ({:.0%} of what is seen): raise model.loss.depth or "
        "model.loss.depth_supervised, and see that data.object_radius suits the objects",
    ),
    Check(
        "health/latent_saturated",
        lambda share: share > 0.9,
        "latent channels are saturated ({:.0%} at the ends of their range): lower optim.lr, or that of the "
        "renderer by optim.lr_scale",
    ),
    Check(
        "health/latent_flat",
        lambda share: share > 0.9,
        "latent channels look the same everywhere ({:.0%} of them): raise model.loss.diffusion, or lower "
        "model.drop_condition_prob",
    ),
    Check(
        "health/condition_gain",
        lambda share: share < 0.01,
        "the denoiser ignores its condition (against that of another object it saves {:.1%} of the error): "
        "lower model.drop_condition_prob, begin with model.noise.start=high, or, where there is a volume, "
        "raise model.loss.rgb",
    ),
    Check(
        "gradient_rise",
        lambda times: times > 10,
        "gradients are {:.0f} times as large as they were lately: lower optim.lr or optim.clip, or lengthen "
        "optim.warmup",
    ),
    Check(
        "ema_drift",
        lambda distance: distance > 0.5,
        "the averaged weights do not follow the current ones (relative distance {:.2f}): lower optim.ema or "
        "optim.lr",
    ),
)


class SanityChecks:
    """Reports a symptom when it has been seen twice in a row, and again only after it had disappeared."""

    def __init__(self) -> None:
        self._lasted: Counter[str] = Counter()
        self._gradients: deque[float] = deque(maxlen=RECENT)

    def update(self, report: Mapping[str, float | int]) -> list[str]:
        """Return a warning for each symptom that a line of the log confirms.

        Symptoms whose figure is missing from the line are unchanged.
        """
        figures = {**report, **self._rise(report)}
        said = []
        for symptom in CHECKS:
            if (value := figures.get(symptom.figure)) is None:
                continue
            self._lasted[symptom.figure] = self._lasted[symptom.figure] + 1 if symptom.shown_by(value) else 0
            if self._lasted[symptom.figure] == PATIENCE:
                said.append(symptom.sentence.format(value))
        return said

    def _rise(self, report: Mapping[str, float | int]) -> dict[str, float]:
        """The gradient norm relative to its recent median, if there are enough earlier values."""
        norm, recent = report.get("gradient_norm"), self._gradients
        if norm is None:
            return {}
        usual = median(recent) if len(recent) >= FEWEST else 0.0
        recent.append(norm)
        return {"gradient_rise": norm / usual} if usual else {}
