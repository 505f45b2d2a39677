"""Checks across objects: outliers, and duplicate images or objects."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.checks.check_object import Summary
from data.checks.findings import Finding, Severity

MAJORITY = 0.8  # fraction of a split's objects that must agree for the others to be outliers
DEVIATION = 0.05  # relative difference allowed in focal lengths and distances
ALIKE, ALIKE_SOMEWHERE = 1.5, 12.0  # mean and largest difference of thumbnails, in levels of 255
BLOCK = 1024  # objects compared at once


def check_between(summaries: Sequence[Summary]) -> list[Finding]:
    """Return all cross-object findings; `summaries` are of all splits."""
    checks = (_outliers, _differing_splits, _same_pictures, _same_ids, _look_alikes)
    return [finding for check in checks for finding in check(summaries)]


def by_split(summaries: Sequence[Summary]) -> dict[str, list[Summary]]:
    """Group the objects by split, in order."""
    groups: dict[str, list[Summary]] = defaultdict(list)
    for summary in summaries:
        groups[summary.split].append(summary)
    return dict(groups)


def _about(summary: Summary, check: str, severity: Severity, message: str, place: str = "") -> Finding:
    return Finding(check, severity, summary.split, summary.object_id, place or summary.place, message)


def _outliers(summaries: Sequence[Summary]) -> Iterator[Finding]:
    """Find outliers in number of views, size, focal length or distance within each split."""
    for split, group in by_split(summaries).items():
        readable = [summary for summary in group if summary.stored]
        yield from _odd_counts(split, readable, "view count", lambda s: s.stored, "views")
        sized = [summary for summary in readable if summary.size]
        yield from _odd_counts(split, sized, "size", lambda s: s.size, "pixels (height, width)")
        yield from _odd_measures(split, readable, "focal length", lambda s: s.focal, "picture widths")
        yield from _odd_measures(split, readable, "distance", lambda s: s.distance, "scene units")


def _odd_counts(
    split: str, group: list[Summary], check: str, value: Callable[[Summary], object], unit: str
) -> Iterator[Finding]:
    counts = Counter(value(summary) for summary in group)
    if len(counts) < 2:
        return
    usual, number = counts.most_common(1)[0]
    if number < MAJORITY * len(group):
        kinds = ", ".join(f"{value}: {number}" for value, number in counts.most_common(5))
        yield Finding(check, "note", split, "", split, f"objects differ in {unit} ({kinds})")
        return
    for summary in group:
        if value(summary) != usual:
            yield _about(
                summary, check, "warning", f"{value(summary)} {unit} instead of {usual} as for the others"
            )


def _odd_measures(
    split: str, group: list[Summary], check: str, value: Callable[[Summary], float], unit: str
) -> Iterator[Finding]:
    group = [summary for summary in group if np.isfinite(value(summary))]
    values = np.array([value(summary) for summary in group])
    if not len(values):
        return
    usual = float(np.median(values))
    odd = np.abs(values / usual - 1) > DEVIATION
    if odd.mean() > 1 - MAJORITY:
        low, high = values.min(), values.max()
        message = f"objects differ in {check}: {low:.3f} to {high:.3f} {unit}"
        yield Finding(check, "note", split, "", split, message)
        return
    for i in np.flatnonzero(odd):
        message = f"{values[i]:.3f} {unit} instead of {usual:.3f} as for the others; correct the cameras"
        yield _about(group[i], check, "warning", message)


def _differing_splits(summaries: Sequence[Summary]) -> Iterator[Finding]:
    """Find splits with different kinds of cameras, as when two data sets were mixed."""
    groups = by_split(summaries)
    measures: tuple[tuple[str, Callable[[Summary], float]], ...] = (
        ("focal length", lambda s: s.focal),
        ("distance", lambda s: s.distance),
    )
    for name, measure in measures:
        usual = {split: float(np.nanmedian([measure(s) for s in group])) for split, group in groups.items()
                 if any(np.isfinite(measure(s)) for s in group)}  # fmt: skip
        for (first, a), (second, b) in pairwise(usual.items()):
            if abs(a / b - 1) > DEVIATION:
                message = f"{name} {a:.3f} in {first}, but {b:.3f} in {second}: is this one data set?"
                yield Finding("splits differ", "warning", second, "", second, message)


def _same_pictures(summaries: Sequence[Summary]) -> Iterator[Finding]:
    """Find objects that share images: an error across splits, a warning within one."""
    counts = [0 if s.digests is None else len(s.digests) for s in summaries]
    owner = np.repeat(np.arange(len(summaries)), counts)
    number = np.concatenate([np.arange(0), *(np.arange(count) for count in counts)])
    digests = np.concatenate(
        [np.zeros(0, np.uint64), *(s.digests for s in summaries if s.digests is not None)]
    )
    order = np.argsort(digests, kind="stable")
    same = np.flatnonzero(digests[order[1:]] == digests[order[:-1]])
    shared: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for a, b in zip(order[same].tolist(), order[same + 1].tolist(), strict=True):
        if owner[a] != owner[b]:
            shared[int(owner[a]), int(owner[b])].append((int(number[a]), int(number[b])))
    for (a, b), pairs in shared.items():
        pairs.sort()
        first, second = summaries[a], summaries[b]
        between = first.split != second.split
        message = (
            f"{len(pairs)} of its pictures are also in {first.place}, such as {first.file(pairs[0][0])}; "
            + (f"results on {second.split} would include training data" if between else "keep one of the two")
        )
        yield _about(
            second, "same picture", "error" if between else "warning", message, second.file(pairs[0][1])
        )


def _same_ids(summaries: Sequence[Summary]) -> Iterator[Finding]:
    """Find ids in several splits, except for a single scene, whose splits are views of one object."""
    first: dict[str, Summary] = {}
    for summary in summaries:
        earlier = first.setdefault(summary.object_id, summary)
        if earlier.split != summary.split and earlier.place != summary.place:
            message = f"{earlier.place} has the same id; if they are the same object, keep one of them"
            yield _about(summary, "same id", "warning", message)


def _look_alikes(summaries: Sequence[Summary]) -> Iterator[Finding]:
    """Find objects that look like one of an earlier split from the same poses."""
    entries: dict[int, list[tuple[int, ndarray]]] = defaultdict(list)
    for i, summary in enumerate(summaries):
        for key, signature in summary.signatures:
            if signature.min() < 250:  # a nearly blank image resembles everything
                entries[key].append((i, signature))
    best: dict[int, int] = {}
    unlike: set[tuple[int, int]] = set()
    alike: set[tuple[int, int]] = set()
    for group in entries.values():
        owners = [i for i, _ in group]
        pictures = np.stack([signature for _, signature in group]).reshape(len(group), -1).astype(np.float32)
        splits = np.array([summaries[i].split for i in owners])
        for a, b, is_alike in _pairs(pictures, splits):
            (alike if is_alike else unlike).add((owners[a], owners[b]))
    for a, b in sorted(alike - unlike):
        best.setdefault(b, a)
    for b, a in best.items():
        if not np.isin(summaries[a].digests, summaries[b].digests).any():  # reported already
            message = f"looks like {summaries[a].place} from the same poses; is it the same object?"
            yield _about(summaries[b], "look-alike", "warning", message)


def _pairs(pictures: Float[ndarray, "n s"], splits: ndarray) -> Iterator[tuple[int, int, bool]]:
    """Yield pairs (a, b) of different splits that are close on average, and whether they are everywhere."""
    squares = (pictures**2).mean(axis=1)
    for start in range(0, len(pictures), BLOCK):
        block = pictures[start : start + BLOCK]
        distance = squares[start : start + BLOCK, None] + squares - 2 * block @ pictures.T / pictures.shape[1]
        near = (distance < (2 * ALIKE) ** 2) & (splits[start : start + BLOCK, None] != splits)
        for row, b in zip(*np.nonzero(near), strict=True):
            a = start + int(row)
            if a < b:
                apart = np.abs(pictures[a] - pictures[b])
                yield a, int(b), bool(apart.mean() < ALIKE and apart.max() < ALIKE_SOMEWHERE)
