"""Write rendered objects in the SRN folder layout, with depth and coverage.

    OBJECT/rgb/000000.png    on white             OBJECT/pose/000000.txt   camera-to-world, OpenCV axes
    OBJECT/alpha/000000.png  8 bits, coverage     OBJECT/depth/000000.png  16 bits, z-depth
    OBJECT/intrinsics.txt    in pixels

Every file and folder is written atomically, so that an interrupted run can be completed.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.files import whole_folder, write_text_whole, write_whole
from data.formats.rendered_view import MeshView
from data.formats.srn.layout import DEPTH_STEPS

THUMBNAIL = 128  # pixels, largest size of an image on the contact sheet
DISTANCE = 1.3  # scene units from the camera to the object's centre
FOCAL = 131.25 / 128  # focal length over image width, as in SRN cars
INTRINSICS = np.array([[FOCAL, 0, 0.5], [0, FOCAL, 0.5], [0, 0, 1]])


def claim_root(root: Path, parameters: Mapping[str, object], *, option: str) -> None:
    """Record the parameters in an empty root, or check them against the recorded ones.

    `option` is the command line's name for the root. Raises ValueError if the root holds another data set.
    """
    record, remedy = root / "parameters.json", f"choose another {option}"
    if record.exists():
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"{record} is damaged; delete {root} or {remedy}")
        other = [
            f"{name} {_named(found.get(name))} instead of {_named(wanted)}"
            for name, wanted in parameters.items()
            if found.get(name) != wanted
        ]
        if other:
            raise ValueError(f"{root} was made with {', '.join(other)}; delete it or {remedy}")
        return
    if root.is_dir() and any(child.name.endswith(("_train", "_val", "_test")) for child in root.iterdir()):
        raise ValueError(f"{root} holds data that this program did not write; {remedy}")
    root.mkdir(parents=True, exist_ok=True)
    write_text_whole(record, json.dumps(parameters, indent=2) + "\n")


def _named(option: object) -> str:
    """An option's value for a message; None is what sets record for the default of a later option."""
    return "the default" if option is None else str(option)


def write_object(folder: Path, pictures: Iterable[MeshView], cam_to_world: Float[ndarray, "v 4 4"]) -> None:
    """Write square images, taken with `INTRINSICS`, to a hidden sibling of `folder` that is then renamed.

    They are streamed: at most one is held in memory. Raises OSError on failure.
    """
    from PIL import Image

    with whole_folder(folder) as unfinished:
        for kind in ("rgb", "pose", "depth", "alpha"):
            (unfinished / kind).mkdir()
        for i, (picture, pose) in enumerate(zip(pictures, cam_to_world, strict=True)):
            depth = np.round(picture.depth * DEPTH_STEPS).astype(np.uint16)
            Image.fromarray(picture.rgb).save(unfinished / "rgb" / f"{i:06d}.png")
            Image.fromarray(picture.alpha).save(unfinished / "alpha" / f"{i:06d}.png")
            Image.fromarray(depth).save(unfinished / "depth" / f"{i:06d}.png")
            numbers = " ".join(f"{number:.9g}" for number in pose.ravel())
            (unfinished / "pose" / f"{i:06d}.txt").write_text(numbers + "\n")
            size = len(depth)
        focal, centre = FOCAL * size, size / 2
        lines = (f"{focal:.6f} {centre:.6f} {centre:.6f} 0.", "0. 0. 0.", "1.", f"{size} {size}")
        (unfinished / "intrinsics.txt").write_text("\n".join(lines) + "\n")


def write_contact_sheet(
    path: Path, split: Path, *, picture: str = "rgb/000000.png", columns: int = 8, rows: int = 5
) -> None:
    """A `picture` of each of up to columns x rows objects, spread over all those in the folder `split`.

    Images are shrunk to at most 128 x 128.
    """
    from PIL import Image

    folders = sorted(child for child in split.iterdir() if child.is_dir() and child.name[0] != ".")
    chosen = np.linspace(0, len(folders) - 1, min(len(folders), columns * rows)).astype(int)
    pictures = []
    for i in chosen:
        with Image.open(folders[i] / picture) as shown:
            shown.thumbnail((THUMBNAIL, THUMBNAIL))
            pictures.append(shown.convert("RGB"))
    width, height = pictures[0].size
    columns = min(len(pictures), columns)
    sheet = Image.new("RGB", (columns * width, math.ceil(len(pictures) / columns) * height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    write_whole(path, sheet.save)
