"""Which logged numbers share a chart; smoothing and thinning of their values."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, takewhile

from scripts.report.run_data import Run, Stage

Point = tuple[int, float]  # step counted through all stages, value
LARGEST = 1e100  # beyond it a value counts as not finite
PER_STEP = "seconds_per_step"  # worked out from "seconds", which are since the line before
LOSSES = "Losses"
ABBREVIATIONS = r"\b(gpu|cpu|rgb|ema|psnr|ssim|lpips)\b"


@dataclass(frozen=True)
class Rule:
    """Which chart a key of the log belongs to."""

    heading: str
    pattern: str  # of the whole key; its group names the series
    title: str = ""  # of the chart that all such keys share; empty: each has one, named after it
    unit: str = ""
    share: bool = False  # of 1
    wide: bool = False
    total: str = "all"  # label of the series without a name


RULES = (
    Rule("Held-out views", r"held_out_(.+)_psnr", "PSNR of held-out views", "dB", wide=True),
    Rule("Held-out views", r"(held_out_.+)"),
    Rule(LOSSES, r"loss(?:/(.+))?", "Loss", wide=True, total="total"),
    Rule("Optimisation", r"gradient_norm(?:/(.+))?", "Gradient norm"),
    Rule("Optimisation", r"lr(?:/(.+))?", "Learning rate"),
    Rule("Schedules", r"schedule/noise_(.+)", "Noise level"),
    Rule("Schedules", r"schedule/loss_(.+)", "Weights of the losses"),
    Rule("Schedules", r"schedule/(.+)_sources", "Source views"),
    Rule("Schedules", r"schedule/(.+)_prob", "Probabilities", share=True),
    Rule("Schedules", r"schedule/(.+)"),
    Rule("Weights and health", r"weight_norm(?:/(.+))?", "Norm of the weights"),
    Rule("Weights and health", r"(ema_drift)", "Drift of the averaged weights"),
    Rule("Weights and health", r"health/opacity(?:_(.+))?", "Opacity", share=True),
    Rule("Weights and health", r"health/latent_(.+)", "Share of latent channels", share=True),
    Rule("Weights and health", r"health/(.+)", share=True),
    Rule("Speed and memory", rf"({PER_STEP})", "Time of a step", "s"),
    Rule("Speed and memory", r"(\w+_per_second)"),
    Rule("Speed and memory", r"(data_wait)", "Share of time waiting for data", share=True),
    Rule("Speed and memory", r"(gpu_memory)_mib", "GPU memory", "MiB"),
    Rule("Speed and memory", r"(.*memory.*)"),
    Rule("Other", r"(.+)"),
)


@dataclass(frozen=True)
class Series:
    """The values of one key; a line of the chart is not drawn from one stage to the next."""

    key: str
    label: str
    main: bool  # of a chart: the total of the others
    segments: tuple[tuple[Point, ...], ...]  # one for each stage that has it
    odd: tuple[Point, ...] = ()  # values that are not finite

    @property
    def points(self) -> list[Point]:
        """All finite values."""
        return [point for segment in self.segments for point in segment]

    @property
    def last(self) -> float | None:
        """The newest finite value, if any."""
        return self.segments[-1][-1][1] if self.segments else None

    @property
    def least(self) -> float | None:
        """The smallest finite value, if any."""
        return min((value for _, value in self.points), default=None)

    @property
    def greatest(self) -> float | None:
        """The largest finite value, if any."""
        return max((value for _, value in self.points), default=None)


@dataclass
class Chart:
    """Series on common axes."""

    heading: str
    title: str
    unit: str = ""
    share: bool = False
    wide: bool = False
    series: list[Series] = field(default_factory=list)


def charts_of(run: Run) -> list[Chart]:
    """Every number of every log, in the order of `RULES`."""
    terms = _loss_terms(run)
    found: dict[tuple[int, str], Chart] = {}
    for key in _keys(run):
        place, name = _place(key, terms)
        rule, series = RULES[place], _series(run, key, name or RULES[place].total, main=not name)
        title = rule.title or _capital(words(name))
        if series.segments or series.odd:
            chart = found.setdefault(
                (place, title), Chart(rule.heading, title, rule.unit, rule.share, rule.wide)
            )
            chart.series.append(series)
    for chart in found.values():
        chart.series.sort(key=lambda series: not series.main)
    return [found[place] for place in sorted(found, key=lambda place: place[0])]


def words(key: str) -> str:
    """A key of the log in words."""
    spaced = re.sub(r"[/_.]+", " ", key).strip()
    return re.sub(ABBREVIATIONS, lambda match: match[0].upper(), spaced)


def smooth(values: Sequence[float]) -> list[float]:
    """Running mean over a tenth of the values, or as many of these as there are near the ends."""
    sums = list(accumulate(values, initial=0.0))
    half, num = len(values) // 20, len(values)
    ends = [(max(0, index - half), min(num, index + half + 1)) for index in range(num)]
    return [(sums[end] - sums[begin]) / (end - begin) for begin, end in ends]


def noisy(values: Sequence[float]) -> bool:
    """Whether values turn round so often that they are no curve by themselves, as a schedule's are."""
    rises = [after - before for before, after in pairwise(values) if after != before]
    turns = sum(before * after < 0 for before, after in pairwise(rises))
    return turns > 0.2 * len(values)


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` of the points: of every stretch the least and the greatest, so that no peak is lost."""
    if len(points) <= most:
        return list(points)
    stretches, kept = most // 2, []
    for number in range(stretches):
        begin, end = (round(index * len(points) / stretches) for index in (number, number + 1))
        stretch = points[begin:end]
        kept += {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
    return sorted(kept)


def step_times(stage: Stage) -> list[Point]:
    """(step, seconds of an update) of every line: its seconds over the steps since the line before."""
    steps = [0, *(row.step for row in stage.rows)]
    before = dict(zip(steps[1:], steps, strict=False))
    return [
        (step, seconds / (step - before[step]))
        for step, seconds in stage.values("seconds")
        if step > before[step]
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _keys(run: Run) -> list[str]:
    """Keys of all lines in the order in which they first appear."""
    keys = dict.fromkeys(key for stage in run.stages for row in stage.rows for key in row.values)
    return [PER_STEP if key == "seconds" else key for key in keys]


def _loss_terms(run: Run) -> set[str]:
    """The terms of the loss: those with a weight in the config, and those that follow it in a line."""
    terms: set[str] = set()
    for stage in run.stages:
        weighed = stage.setting("model.loss")
        terms |= set(weighed) if isinstance(weighed, dict) else set()
        for row in stage.rows:
            keys = list(row.values)
            behind = keys[keys.index("loss") + 1 :] if "loss" in keys else []
            terms |= set(
                takewhile(lambda key: key != "seconds" and RULES[_place(key)[0]] is RULES[-1], behind)
            )
    return terms


def _place(key: str, terms: set[str] = frozenset()) -> tuple[int, str]:
    """Index of the rule for a key, and the name of its series; the sum of others has none."""
    if key in terms:
        return next(place for place, rule in enumerate(RULES) if rule.heading == LOSSES), key
    for place, rule in enumerate(RULES):
        match = re.fullmatch(rule.pattern, key, re.DOTALL)
        if match:
            return place, match[1] or ""
    raise AssertionError("the last rule takes every key")


def _series(run: Run, key: str, name: str, *, main: bool) -> Series:
    segments, odd = [], []
    for stage in run.stages:
        points = step_times(stage) if key == PER_STEP else _logged(stage, key)
        points = [(stage.start + step, value) for step, value in points]
        finite = tuple(point for point in points if abs(point[1]) < LARGEST)
        odd += [point for point in points if not abs(point[1]) < LARGEST]
        segments += [finite] if finite else []
    return Series(key, words(name), main, tuple(segments), tuple(odd))


def _logged(stage: Stage, key: str) -> list[Point]:
    return [(row.step, row.values[key]) for row in stage.rows if key in row.values]
