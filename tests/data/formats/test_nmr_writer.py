"""The embedded cars in NMR's layout: the views are where NMR's are, and the lists name what is there."""

import math

import numpy as np
import pytest
import torch

from data.formats.nmr.cameras import read_cameras, require_even_turn, view_angles
from data.formats.nmr.writer import camera_arrays
from data.formats.registry import open_raw
from data.formats.srn.writer import INTRINSICS
from scripts.common.shapes_set import ShapesOptions, make_shapes
from scripts.make_shapes import main
from tests.scenes import cameras


def test_arrays_of_cameras_are_read_as_they_were(tmp_path):
    given = cameras(5, seed=3)
    np.savez(tmp_path / "cameras.npz", **camera_arrays(given.cam_to_world.double().numpy(), INTRINSICS))
    poses, intrinsics = read_cameras(tmp_path / "cameras.npz", tuple(range(5)))
    torch.testing.assert_close(poses, given.cam_to_world, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(intrinsics[3], torch.tensor(INTRINSICS).float())


def test_a_set_has_24_views_on_a_turn_and_both_kinds_of_lists(tmp_path):
    root = tmp_path / "set"
    options = ShapesOptions(objects=3, val=2, size=8, layout="nmr")
    make_shapes(root, options, workers=1, progress=False)
    counts = {"train": 3, "val": 2, "test": 2}
    for layout in ("auto", "nmr", "nmr_softras"):
        names = {split: open_raw(root, split, layout).ids for split in counts}
        assert {split: len(found) for split, found in names.items()} == counts
        assert len(set().union(*names.values())) == 7
    raw = open_raw(root, "train")
    poses, _ = raw.cameras(0)
    require_even_turn(poses, "set")
    angles = view_angles(poses)
    expected = 15.0 * torch.arange(24)
    assert ((angles.azimuth_deg - expected + 180) % 360 - 180).abs().max() < 1e-3
    assert float(angles.elevation_deg[7]) == pytest.approx(30.0, abs=1e-3)
    assert not math.isclose(raw.picture(0, 0).float().mean(), raw.picture(0, 7).float().mean())
    make_shapes(root, options, workers=1, progress=False)  # completes what is there


def test_layouts_do_not_mix_and_nmr_has_24_views(tmp_path, capsys):
    small = ["--objects", "1", "--val", "0", "--size", "8", "--workers", "1", "--root", str(tmp_path / "set")]
    assert main([*small, "--layout", "nmr", "--views", "6"]) == 2
    assert "the layout nmr has 24 views" in capsys.readouterr().err
    assert main([*small, "--layout", "nmr"]) == 0
    assert main(small) == 2
    assert "was made with layout nmr instead of the default" in capsys.readouterr().err
