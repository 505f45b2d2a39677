"""Pictures of held-out views, made small enough for one page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from scripts.common.html.pictures import EXACT, KIND, data_uri, encoded
from scripts.report.run_data import Run

# A picture has a row for each view, of square tiles with a gap between them (models/preview.py).
COLUMNS = ("source", "preview", "depth", "opacity", "sample", "truth")
GAP = 2  # pixels
LARGEST_SIDE = 4096  # pixels of the large picture
SCALES = (1.0, 0.7, 0.5)  # of the film's pictures, where all of them would be too much
HERO_SHARE = 0.3  # of the room for pictures that the large one may take
QUALITY = 85


@dataclass(frozen=True)
class Frame:
    """A picture of a step, encoded."""

    stage: str
    step: int  # counted through all stages
    width: int  # pixels before it was scaled
    height: int
    data: bytes

    @property
    def uri(self) -> str:
        """The picture as text."""
        return data_uri(KIND, self.data)

    @property
    def cost(self) -> int:
        """Characters of the page that it takes, roughly."""
        return 4 * len(self.data) // 3 + 300

    @property
    def columns(self) -> tuple[str, ...]:
        """What its columns show, as far as its size tells that they are the usual ones."""
        tile = (self.width + GAP) / len(COLUMNS)
        usual = tile > GAP and tile == int(tile) and (self.height + GAP) % tile == 0
        return COLUMNS if usual else ()


@dataclass(frozen=True)
class Film:
    """All that the page shows of a run's pictures."""

    large: Frame | None = None  # the newest
    frames: tuple[Frame, ...] = ()
    remarks: tuple[str, ...] = ()  # what was left out or scaled
    problems: tuple[str, ...] = ()  # what could not be read


@dataclass(frozen=True)
class _Source:
    stage: str
    step: int
    path: Path


@dataclass
class _Studio:
    """Encodes pictures, and remembers those that cannot be read."""

    problems: dict[Path, str] = field(default_factory=dict)

    def frame(self, source: _Source, scale: float, *, exact: bool = False) -> Frame | None:
        """None where the file is no picture."""
        from data.images import READ_ERRORS

        try:
            with Image.open(source.path) as file:
                picture = file.convert("RGB")
        except READ_ERRORS as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.problems[source.path] = f"{source.path}: is no whole picture ({reason}); it is left out"
            return None
        width, height = picture.size
        scale = min(scale, LARGEST_SIDE / max(width, height))
        if scale < 1:
            smaller = (max(1, round(width * scale)), max(1, round(height * scale)))
            picture = picture.resize(smaller, Image.Resampling.LANCZOS)
        return Frame(source.stage, source.step, width, height, encoded(picture, EXACT if exact else QUALITY))


def make_film(run: Run, room: int) -> Film:
    """The run's pictures in about `room` bytes of page: scaled, then thinned evenly, where that is too few.

    A picture that cannot be read is left out and named.
    """
    sources = [
        _Source(stage.label if run.recipe else "", stage.start + step, path)
        for stage in run.stages
        for step, path in stage.pictures
    ]
    studio = _Studio()
    large = _large(sources, studio, int(room * HERO_SHARE))
    if large is None:
        remarks = ("The pictures are left out: there is no room for one.",) if sources else ()
        unreadable = len(studio.problems) == len(sources)
        return Film(remarks=() if unreadable else remarks, problems=tuple(studio.problems.values()))
    frames, remarks = _frames(sources, studio, room - large.cost)
    return Film(large, tuple(frames), tuple(remarks), tuple(studio.problems.values()))


def _large(sources: Sequence[_Source], studio: _Studio, room: int) -> Frame | None:
    """The newest picture that can be read, as good as there is room for."""
    for source in reversed(sources):
        for scale, exact in ((1.0, True), *((scale, False) for scale in (*SCALES, 0.35, 0.25))):
            frame = studio.frame(source, scale, exact=exact)
            if frame is None:
                break
            if frame.cost <= room:
                return frame
    return None


def _frames(sources: Sequence[_Source], studio: _Studio, room: int) -> tuple[list[Frame], list[str]]:
    """What fits of the film, and what had to be done for that."""
    tried = evenly(sources, 9)
    for scale in SCALES:
        frames = [frame for frame in (studio.frame(source, scale) for source in tried) if frame]
        usual = sum(frame.cost for frame in frames) / max(1, len(frames))
        if usual * len(sources) <= room:
            break
    num = min(len(sources), int(room / max(usual, 1)))
    while num > 0:
        chosen = evenly(sources, num)
        frames = [frame for frame in (studio.frame(source, scale) for source in chosen) if frame]
        total = sum(frame.cost for frame in frames)
        if total <= room:
            break
        num = min(num - 1, int(num * room / total))
    else:
        return [], ["The film is left out: there is no room for it (--max-mb)."]
    remarks = []
    if num < len(sources):
        remarks.append(f"Of {len(sources)} pictures {num} are here, evenly chosen (--max-mb).")
    if scale < 1:
        remarks.append(f"The film's pictures are scaled to {scale:.0%} of their size (--max-mb).")
    return frames, remarks


def evenly(items: Sequence, num: int) -> list:
    """`num` of the items, evenly chosen, the first and the last among them; of one, the last."""
    if num >= len(items):
        return list(items)
    if num <= 1:
        return list(items[-1:])
    return [items[round(index * (len(items) - 1) / (num - 1))] for index in range(num)]
