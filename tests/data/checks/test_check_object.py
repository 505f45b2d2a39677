"""The checks of an object of a layout that is no folder of files: only the interface is asked."""

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from data.cameras.pinhole import cameras_from_poses, pinhole
from data.cameras.poses import turntable
from data.cameras.transforms_json import to_transforms
from data.checks.check_object import check_object
from data.checks.open_splits import OpenSplit
from data.scenes.objects import RawObjects
from scripts.check_data import Options, check


class InMemory(RawObjects):
    """One object of a few views in a file that holds everything."""

    def __init__(self, poses: Float[Tensor, "v 4 4"]):
        self.ids = ("thing",)
        self._poses = poses

    def place(self, index: int) -> str:
        """A file and a name in it."""
        return "/data/all.bin: thing"

    def num_views(self, index: int) -> int:
        """As many as there are poses."""
        return len(self._poses)

    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Without a look at the poses, unlike the folders of the SRN layout."""
        return self._poses, pinhole().expand(len(self._poses), 3, 3)

    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """A square that differs between views; the third one cannot be read."""
        if view == 2:
            raise ValueError("/data/all.bin: thing, picture 2: is damaged; make the file again")
        pixels = torch.full((9, 9, 3), 255, dtype=torch.uint8)
        pixels[3:6, 3:6] = 40 + view
        return pixels


def findings_of(poses: Float[Tensor, "v 4 4"]) -> list[tuple[str, str, int | None]]:
    summary = check_object(OpenSplit("train", InMemory(poses)), 0)
    return [(finding.check, finding.place, finding.view) for finding in summary.findings]


def test_views_are_named_by_their_numbers_where_they_are_no_files():
    poses = turntable(5)
    poses[3, :3, :3] *= 1.3
    assert findings_of(poses) == [
        ("unreadable", "/data/all.bin", 2),
        ("pose", "/data/all.bin: thing, view 3", 3),
    ]


def test_mirrored_and_broken_poses_are_found_whatever_the_layout():
    poses = turntable(5)
    poses[0, :3, 0] *= -1
    poses[1, 3] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert [(check, view) for check, _, view in findings_of(poses)][1:] == [("pose", 0), ("pose", 1)]


def test_a_pose_of_nan_is_found():
    poses = turntable(5)
    poses[4, 0, 3] = torch.nan
    assert ("pose", 4) in [(check, view) for check, _, view in findings_of(poses)]


def test_the_held_out_views_of_a_lone_scene_are_checked_too(tmp_path: Path):
    names = [f"{view}.png" for view in range(10)]
    for view, name in enumerate(names):
        pixels = np.full((9, 9, 3), 255, np.uint8)
        pixels[3:6, 3:6] = 40 + view
        Image.fromarray(pixels).save(tmp_path / name)
    cameras = cameras_from_poses(turntable(10), pinhole())
    document = to_transforms(cameras, names, height=9, width=9)
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    summaries, findings = check(Options(tmp_path), workers=1, progress=False)
    assert [(summary.split, summary.num_read) for summary in summaries] == [("train", 8), ("val", 2)]
    assert not [found for found in findings if found.check in ("same id", "same picture")]
