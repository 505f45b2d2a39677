"""Pictures of held-out views that a run has left, encoded small enough for one page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from scripts.common.html.pictures import EXACT, KIND, data_uri, encoded
from scripts.report.run_data import Run

# A picture has a row for each view, of square tiles with a gap between them (models/training/validation.py).
LAYOUTS = (
    ("source", "preview", "depth", "opacity", "sample", "truth"),
    ("source", "weights", "sample", "truth"),
    ("source", "sample", "truth"),
)
GAP = 2  # pixels
LARGEST_SIDE = 4096  # pixels of the large picture
SCALES = (1.0, 0.7, 0.5)  # of the small pictures, tried one after another
LARGE_SCALES = (*SCALES, 0.35, 0.25)
LARGE_SHARE = 0.3  # of the room for pictures that the large one may take
QUALITY = 85


@dataclass(frozen=True)
class Frame:
    """A picture of a step; `data` is the encoded picture, empty until then."""

    stage: str
    step: int  # counted through all stages
    path: Path
    image_size: Any = None  # of the stage's config: side of a tile in pixels, if known
    width: int = 0  # of `data`, in pixels
    height: int = 0
    data: bytes = b""
    columns: tuple[str, ...] = ()  # what its columns show, if its size is that of a known layout

    @property
    def uri(self) -> str:
        """The picture as text."""
        return data_uri(KIND, self.data)

    @property
    def cost(self) -> int:
        """Characters of the page that it takes, roughly."""
        return 4 * len(self.data) // 3 + 400


@dataclass(frozen=True)
class Previews:
    """The pictures that the page shows of a run."""

    large: Frame | None = None  # the newest
    frames: tuple[Frame, ...] = ()
    remarks: tuple[str, ...] = ()  # about omitted or scaled images
    problems: tuple[str, ...] = ()  # unreadable files


def make_previews(run: Run, room: int) -> Previews:
    """The run's pictures in about `room` bytes of the page: scaled, then thinned evenly, if they take more.

    A picture that cannot be read is left out and named.
    """
    sources = [
        Frame(stage.label if run.recipe else "", stage.start + step, path, stage.setting("data.image_size"))
        for stage in run.stages
        for step, path in stage.pictures
    ]
    problems: dict[Path, str] = {}
    large = _newest(sources, int(room * LARGE_SHARE), problems)
    frames, remarks = _animation(sources, room - large.cost, problems) if large else ([], [])
    if large is None and len(problems) < len(sources):
        remarks = ["The pictures are left out: there is no room for one."]
    return Previews(large, tuple(frames), tuple(remarks), tuple(problems.values()))


def evenly(items: Sequence, num: int) -> list:
    """`num` of the items, evenly spaced, with the first and the last; the last if `num` is 1."""
    if num >= len(items):
        return list(items)
    if num <= 1:
        return list(items[-1:])
    return [items[round(index * (len(items) - 1) / (num - 1))] for index in range(num)]


def _newest(sources: Sequence[Frame], room: int, problems: dict[Path, str]) -> Frame | None:
    """The newest picture that can be read, as good as there is room for."""
    for source in reversed(sources):
        for scale, quality in ((1.0, EXACT), *((scale, QUALITY) for scale in LARGE_SCALES)):
            frame = _encode(source, scale, quality, problems)
            if frame is None:
                break
            if frame.cost <= room:
                return frame
    return None


def _animation(
    sources: Sequence[Frame], room: int, problems: dict[Path, str]
) -> tuple[list[Frame], list[str]]:
    """As many of the images as fit, with remarks on reductions."""

    def encode_all(chosen: Sequence[Frame], scale: float) -> tuple[list[Frame], int]:
        frames = [frame for frame in (_encode(one, scale, QUALITY, problems) for one in chosen) if frame]
        return frames, sum(frame.cost for frame in frames)

    # The largest scale at which all pictures fit, guessed from a few of them.
    for scale in SCALES:
        frames, total = encode_all(evenly(sources, 9), scale)
        usual = total / max(1, len(frames))
        if usual * len(sources) <= room:
            break

    # As many as fit at that scale.
    num = min(len(sources), int(room / max(usual, 1)))
    while num > 0:
        frames, total = encode_all(evenly(sources, num), scale)
        if total <= room:
            break
        num = min(num - 1, int(num * room / total))
    else:
        return [], ["The animation is left out: there is no room for it (--max-mb)."]
    remarks = []
    if num < len(sources):
        remarks.append(f"Of {len(sources)} pictures {num} are here, evenly chosen (--max-mb).")
    if scale < 1:
        remarks.append(f"The animation's images are scaled to {scale:.0%} of their size (--max-mb).")
    return frames, remarks


def _encode(source: Frame, scale: float, quality: int, problems: dict[Path, str]) -> Frame | None:
    """The picture of a frame, scaled; None, and a line in `problems`, if the file is no picture."""
    from data.files import first_line
    from data.images.picture_files import READ_ERRORS

    try:
        with Image.open(source.path) as file:
            picture = file.convert("RGB")
    except READ_ERRORS as error:
        reason = first_line(error)
        problems[source.path] = f"{source.path}: is no whole picture ({reason}); it is left out"
        return None
    width, height = picture.size
    columns = _columns(width, height, source.image_size)
    scale = min(scale, LARGEST_SIDE / max(width, height))
    if scale < 1:
        smaller = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = picture.resize(smaller, Image.Resampling.LANCZOS)
    data = encoded(picture, quality)
    return replace(source, width=width, height=height, data=data, columns=columns)


def _columns(width: int, height: int, image_size: Any) -> tuple[str, ...]:
    """The names of the columns of a picture of that size, if they are known."""
    if not isinstance(image_size, int) or image_size < 1:
        return ()
    tile = image_size + GAP
    known = {len(layout) * tile - GAP: layout for layout in LAYOUTS}
    return known.get(width, ()) if (height + GAP) % tile == 0 else ()
