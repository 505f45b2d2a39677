"""Measure how consistent view sequences are: reprojection errors, classical reconstructions."""

from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from scripts.common.results import mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from scripts.sampling.reader import ViewSequence
    from scripts.sampling.reprojection import SeenView


@dataclass(frozen=True)
class Steadiness:
    """The consistency of one view sequence."""

    error: float  # levels of 8 bits
    psnr: float  # dB
    compared: float  # percent of the pixels that show a surface
    detail: float  # levels of 8 bits


@dataclass(frozen=True)
class DepthSource:
    """The depth used for reprojection: the sequences' own, or that of other sequences or of a data set."""

    folder: Path | None = None  # other view sequences of the same objects and cameras
    data: str | None = None  # root of a data set with depth; views were sampled from its cameras
    split: str = "test"
    depth_scale: float = 1.0  # as data.depth_scale

    def __post_init__(self):
        if self.folder and self.data:
            raise ValueError("--depth and --data both set the depth; give only one")


def consistency(
    folders: "Sequence[Path]", source: DepthSource, *, previews: bool = False
) -> dict[str, list[Steadiness]]:
    """Measure the view sequences of every row of the table."""
    from scripts.sampling.reader import seen_views, sequences_in

    rows: dict[str, list[Steadiness]] = {}
    for folder in folders:
        sequences = sequences_in(folder)
        depths, truth = surfaces(sequences, source)
        pairs = list(zip(sequences, depths, strict=True))
        rows[f"{folder}"] = [measured(seen_views(sequence, depth)) for sequence, depth in pairs]
        if previews:
            rows[f"{folder}, previews"] = [
                measured(seen_views(sequence, depth, pictures=sequence.previews)) for sequence, depth in pairs
            ]
        if truth:
            rows[f"{source.data}, as for {folder}"] = [measured(views) for views in truth]
    return rows


def surfaces(
    sequences: list["ViewSequence"], source: DepthSource
) -> tuple[list[list["Tensor"]], list[list["SeenView"]]]:
    """The depth of the views of each sequence from a source, and the true views if that is a data set.

    Raises ValueError if the source does not match the sequences.
    """
    from data.config import DataConfig
    from data.formats.registry import open_split
    from data.images.files import picture_size
    from scripts.sampling.reader import depths_of, require_same_cameras, sequences_in, true_views

    if source.data:
        size = picture_size(sequences[0].pictures[0])[0]
        config = DataConfig(root=source.data, image_size=size, depth_scale=source.depth_scale)
        objects = open_split(config, source.split)
        truth = [true_views(sequence, objects) for sequence in sequences]
        return [[view.depth for view in views] for views in truth], truth
    others = sequences
    if source.folder:
        found = sequences_in(source.folder)
        named = {other.name: other for other in found}
        others = [named.get(sequence.name) for sequence in sequences]
        if None in others:
            missing = sequences[others.index(None)].name
            raise ValueError(
                f"{source.folder}: has no views of {missing}; sample them, or give another folder"
            )
    for sequence, other in zip(sequences, others, strict=True):
        require_same_cameras(sequence, other)
    return [list(depths_of(other)) for other in others], []


def measured(views: "Iterable[SeenView]") -> Steadiness:
    """Measure a view sequence."""
    from scripts.sampling.reprojection import detail, sequence_agreement

    views = list(views)
    agreement = sequence_agreement(views)
    details = [value for value in map(detail, views) if isfinite(value)]
    mean = fmean(details) if details else float("nan")
    return Steadiness(agreement.error, agreement.psnr, 100 * agreement.share, mean)


def table(rows: dict[str, list[Steadiness]]) -> str:
    """Means over view sequences, with standard errors if there are several, as Markdown."""
    lines = ["| method | sequences | error (levels) | PSNR (dB) | compared (%) | detail (levels) |"]
    lines.append("|---|---|---|---|---|---|")
    for name, sequences in rows.items():
        figures = (
            mean([getattr(sequence, key.name) for sequence in sequences]) for key in fields(Steadiness)
        )
        lines.append(f"| {name} | {len(sequences)} | {' | '.join(figures)} |")
    return "\n".join(lines)


def known(sequence: Steadiness) -> dict[str, float | None]:
    """The figures of a view sequence for JSON; None if there is nothing to compare."""
    return {name: value if isfinite(value) else None for name, value in asdict(sequence).items()}
