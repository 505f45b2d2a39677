"""Quality of sampled views versus cost: the figures, a table and a chart."""

import math
from pathlib import Path

from pydantic import BaseModel, SerializeAsAny, ValidationInfo, field_validator

from data.files import write_whole
from data.images.quality import extra
from diffusion.samplers import SampleOptions, num_evaluations
from scripts.common.results import standard_error

# Name -> unit or range with the better end, and whether more is better.
METRICS = {
    "psnr": ("PSNR (dB), more is better", True),
    "ssim": ("SSIM, more is better", True),
    "stlpips": ("stLPIPS, less is better", False),
}
# The sampler of the published code, of families that name no other.
BASELINE = SampleOptions(sampler="euler", stochastic=True, steps=250)
CHURN = "+churn"  # suffix of the name of a sampler with churn


class Row(BaseModel, frozen=True, extra="forbid"):
    """The figures of one sampler and number of steps."""

    options: SerializeAsAny[SampleOptions]
    seconds: float  # per view, including rendering; median over objects
    scores: dict[str, list[list[float]]]  # by metric, object and view

    @field_validator("options", mode="before")
    @classmethod
    def _options_of_the_family(cls, options: object, info: ValidationInfo) -> object:
        """Options read from a file are those of the class in the context, if it names one."""
        chosen = (info.context or {}).get("options")
        return chosen.model_validate(options) if chosen and isinstance(options, dict) else options

    def mean(self, metric: str) -> float:
        """Mean over views, then over objects."""
        means = _object_means(self.scores[metric])
        return sum(means) / len(means)


class Curve(BaseModel, frozen=True, extra="forbid"):
    """The figures of all samplers on the same views; the first row is the baseline."""

    setup: dict[str, str | int]  # model and views
    rows: tuple[Row, ...] = ()

    def row(self, options: SampleOptions) -> Row | None:
        """The row of these options, if there is one."""
        return next((row for row in self.rows if row.options == options), None)

    def with_row(self, row: Row) -> "Curve":
        """A copy with another row."""
        return self.model_copy(update={"rows": (*self.rows, row)})

    @property
    def baseline(self) -> Row:
        """The row that the others are compared with."""
        return self.rows[0]


def label(options: SampleOptions, baseline: SampleOptions = BASELINE) -> str:
    """The label, in the chart, of options that only differ in their number of steps.

    It names the noise levels if they are not those of the `baseline`.
    """
    name = options.sampler + (CHURN if options.stochastic else "")
    if getattr(options, "levels", "karras") != "karras":
        name += f" on {options.levels} levels"
    low, high = options.sigma_min, options.sigma_max
    usual = (low, high) == (baseline.sigma_min, baseline.sigma_max)
    return name if usual else f"{name}, sigma {low:g} to {high:g}"


def difference(row: Row, other: Row, metric: str) -> tuple[float, float]:
    """Mean of `row` minus that of `other`, on the same views, and its standard error.

    The error is over objects, since views of an object are correlated; nan if there is only one object.
    """
    pairs = zip(_object_means(row.scores[metric]), _object_means(other.scores[metric]), strict=True)
    gains = [ours - theirs for ours, theirs in pairs]
    error = standard_error(gains)
    return sum(gains) / len(gains), math.nan if error is None else error


def no_worse(row: Row, other: Row) -> bool:
    """Whether the mean PSNR of `row` is at least, and its mean stLPIPS at most, that of `other`."""
    return difference(row, other, "psnr")[0] >= 0 >= difference(row, other, "stlpips")[0]


def table(curve: Curve) -> str:
    """The means as a Markdown table, grouped by sampler, with a conclusion."""
    lines = [
        "| sampler | steps | evaluations | PSNR (dB) | gain | SSIM | stLPIPS | gain | seconds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for rows in by_label(curve).values():
        lines += [_line(row, curve.baseline) for row in rows]
    good = [row for row in curve.rows[1:] if no_worse(row, curve.baseline)]
    cheapest = min(good, key=lambda row: num_evaluations(row.options), default=None)
    verdict, published = (_with_steps(row, curve) if row else "none" for row in (cheapest, curve.baseline))
    setup = ", ".join(f"{name} {value}" for name, value in curve.setup.items())
    notes = (
        f"Measured with: {setup}. Gains are over {published}: means over objects, with standard errors. "
        "Evaluations of the network and seconds are per view.",
        f"Fewest evaluations at no worse mean PSNR and stLPIPS than that: {verdict}.",
    )
    return "\n".join([*lines, "", *notes, ""])


def chart(curve: Curve, path: Path) -> None:
    """Write a PNG of three panels: each metric versus evaluations, with a line for each sampler.

    Raises ValueError if matplotlib is missing.
    """
    published = curve.baseline.options
    figure = extra("matplotlib.figure").Figure(figsize=(13, 4.6), layout="constrained")
    for axes, (metric, (title, more_is_better)) in zip(
        figure.subplots(1, len(METRICS)), METRICS.items(), strict=True
    ):
        name = f"{label(published, published)}, {published.steps} steps"
        axes.axhline(curve.baseline.mean(metric), color="black", linestyle="--", linewidth=1, label=name)
        for number, (sampler, rows) in enumerate(by_label(curve).items()):
            costs = [num_evaluations(row.options) for row in rows]
            means = [row.mean(metric) for row in rows]
            axes.plot(costs, means, marker="osv^Dxp*"[number % 8], markersize=4, linewidth=1.2, label=sampler)
        axes.set_xscale("log")
        if not more_is_better:
            axes.set_yscale("log")  # to distinguish small distances
        axes.set_xlabel("U-Net evaluations per view")
        axes.set_title(title, fontsize=10)
        axes.grid(visible=True, alpha=0.3)
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=9)
    write_whole(path, lambda partial: figure.savefig(partial, format="png", dpi=110))


def by_label(curve: Curve) -> dict[str, list[Row]]:
    """Rows grouped by sampler and sorted by the number of evaluations."""
    lines: dict[str, list[Row]] = {}
    for row in sorted(curve.rows, key=lambda row: num_evaluations(row.options)):
        lines.setdefault(label(row.options, curve.baseline.options), []).append(row)
    return dict(sorted(lines.items()))


def _line(row: Row, baseline: Row) -> str:
    options = row.options
    gains = {metric: "{:+.3f} ± {:.3f}".format(*difference(row, baseline, metric)) for metric in METRICS}
    cells = (
        label(options, baseline.options),
        options.steps,
        num_evaluations(options),
        f"{row.mean('psnr'):.2f}",
        gains["psnr"],
    )
    cells += (f"{row.mean('ssim'):.4f}", f"{row.mean('stlpips'):.4f}", gains["stlpips"], f"{row.seconds:.2f}")
    return "| " + " | ".join(map(str, cells)) + " |"


def _with_steps(row: Row, curve: Curve) -> str:
    return f"{label(row.options, curve.baseline.options)} with {row.options.steps} steps"


def _object_means(scores: list[list[float]]) -> list[float]:
    return [sum(views) / len(views) for views in scores]
