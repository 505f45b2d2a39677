"""Cameras, rays, paths and data: the published figures beside ours."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.cameras.pinhole import in_frame_of, opencv_to_opengl, opengl_to_opencv
from data.cameras.poses import circle, spiral
from data.config import DataConfig
from data.formats.srn.objects import SRNObjects
from data.scenes.objects import Objects
from nerf.volume import FrustumVolume
from tests.reference.conventions import arrays, cameras, source_cameras
from tests.reference.figure import Figure

EXACT_TO_ROUNDING = 2e-6


def rays() -> Iterator[Figure]:
    """Origins and directions of rays, at three resolutions."""
    stored = arrays("rays")
    for case in ("r16", "rect", "r64"):
        height, width = stored[f"{case}_HW"].tolist()
        ours = cameras(stored["poses"], stored[f"{case}_intrinsics"], height, width).rays(height, width)
        every = int(stored[f"{case}_stride"])
        for name, part in (("o", ours.origins), ("d", ours.directions)):
            theirs = stored[f"{case}_rays_{name}"]
            yield Figure(f"{case} rays_{name}", part[:, ::every], theirs, EXACT_TO_ROUNDING)


def paths() -> Iterator[Figure]:
    """The spiral and the circle."""
    stored = arrays("paths")
    poses = opencv_to_opengl(spiral(40, radius=float(stored["spiral_radius"])))
    yield Figure("spiral", poses, stored["spiral_n40"], EXACT_TO_ROUNDING)
    poses = opencv_to_opengl(circle(opengl_to_opencv(stored["circle_ref_pose"]), 8))
    yield Figure("circle", poses, stored["circle_n8"], EXACT_TO_ROUNDING)


def dataset() -> Iterator[Figure]:
    """An SRN object read from files: poses in the first view's frame, intrinsics, pictures."""
    stored = arrays("dataset")
    for case, size in (("srn", 128), ("srn64", 64), ("raw", 128)):
        raw, matrix = stored[f"{case}_raw_poses"], stored[f"{case}_K"]
        with tempfile.TemporaryDirectory() as folder:
            plant(Path(folder) / "car", raw, matrix, stored["srn_img_uint8"])
            config = DataConfig(root=folder, image_size=size, object_radius=1.0, resampling="bicubic")
            images, found = Objects(config, SRNObjects(Path(folder), [Path(folder) / "car"])).read(
                0, range(len(raw))
            )
        distance = (found.near[0] + found.far[0]) / 2
        seen = found if case == "raw" else in_frame_of(found, found.cam_to_world[:1])
        theirs = stored[f"{case}_poses"]
        yield Figure(f"{case} poses", opencv_to_opengl(seen.cam_to_world), theirs, EXACT_TO_ROUNDING)
        fx, fy, cx, cy = (found.intrinsics[0, i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        in_pixels = 64 * torch.stack([fx, fy, cx, cy])
        yield Figure(f"{case} intrinsics", in_pixels, stored[f"{case}_intrinsics"], 1e-5)
        yield Figure(f"{case} camera_k", 2 * fx, stored[f"{case}_camera_k"].float(), EXACT_TO_ROUNDING)
        yield Figure(f"{case} camera_d", distance, stored[f"{case}_camera_d"].float(), EXACT_TO_ROUNDING)
        if case == "srn":
            crop, mean = images[0, :, 48:64, 40:56], images[0].mean(dim=(1, 2))
            yield Figure("srn image crop", crop, stored["srn_img_float_crop"], EXACT_TO_ROUNDING)
            yield Figure("srn image mean", mean, stored["srn_img_float_mean"], 1e-5)
        elif case == "srn64":
            yield Figure("srn64 image", images[0], stored["srn64_img_float"], EXACT_TO_ROUNDING)


def frustum_coordinates() -> Iterator[Figure]:
    """World points in the frusta of sources, clamped to their borders."""
    stored = arrays("nerf_renderer")
    poses, points = stored["cam_src_poses"], stored["cam_points"]
    sources = source_cameras(poses, stored["cam_camera_k"])
    b, v = poses.shape[:2]
    nothing = FrustumVolume(torch.zeros(b, v, 1, 2, 2, 2), sources, torch.ones(b, v, dtype=torch.bool))
    ours = nothing.coordinates(points.flatten(1, 3)).clamp(-1, 1)
    # Rows count from the bottom there, and planes from the far end.
    theirs = stored["cam_coords"].flatten(2, 4) * torch.tensor([1.0, -1.0, -1.0])
    yield Figure("coordinates", ours, theirs, 1e-5)


def plant(folder: Path, poses: Tensor, matrix: Tensor, picture: Tensor) -> None:
    """An SRN object whose views all show one picture."""
    (folder / "rgb").mkdir(parents=True)
    (folder / "pose").mkdir()
    np.savetxt(folder / "intrinsics.txt", matrix.numpy())
    for view, pose in enumerate(poses.numpy()):
        Image.fromarray(picture.numpy()).save(folder / "rgb" / f"{view:06d}.png")
        np.savetxt(folder / "pose" / f"{view:06d}.txt", pose.reshape(1, 16), fmt="%.17g")
