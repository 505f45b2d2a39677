"""The conventions of the published code, and the way from them to ours.

There, cameras have OpenGL axes and intrinsics in pixels, a volume's first row is the bottom and its first
plane the farthest, and every volume reaches one scene unit before and behind the world's origin.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from config.run import load_config
from data.cameras.pinhole import Cameras, opengl_to_opencv
from models.genvs.model import GeNVSConfig
from nerf.volume import FrustumVolume

FOLDER = Path(__file__).parent
CONFIG = FOLDER.parents[1] / "config" / "srn_cars_128_published.json"


def arrays(name: str) -> dict[str, Tensor]:
    """The numeric arrays of NAME.npz."""
    with np.load(FOLDER / f"{name}.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files if stored[key].dtype.kind in "fiu"}


def names(name: str, key: str) -> list[str]:
    """An array of text in NAME.npz."""
    with np.load(FOLDER / f"{name}.npz") as stored:
        return stored[key].tolist()


def published_model() -> GeNVSConfig:
    """The model's part of the config for published weights."""
    return load_config(CONFIG, ["data.root=none"]).model


def cameras(poses: Tensor, intrinsics: Tensor, height: int, width: int) -> Cameras:
    """Cameras from OpenGL poses [..., 4, 4] and fx, fy, cx, cy in pixels of a picture of that size."""
    fx, fy, cx, cy = (intrinsics / intrinsics.new_tensor([width, height, width, height])).unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    matrix = torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], dim=-1).unflatten(-1, (3, 3))
    distance = poses[..., :3, 3].norm(dim=-1)
    batch = poses.shape[:-2]
    return Cameras(opengl_to_opencv(poses), matrix.expand(*batch, 3, 3), distance - 1, distance + 1)


def source_cameras(poses: Tensor, k: Tensor) -> Cameras:
    """Cameras of the sources [b, v, 4, 4]; k [b] is their focal length in half image widths."""
    centred = torch.stack([k / 2, k / 2, torch.full_like(k, 0.5), torch.full_like(k, 0.5)], dim=-1)
    return cameras(poses, centred[:, None], 1, 1)


def volume(features: Tensor, cameras: Cameras, *, channels: int = 16) -> FrustumVolume:
    """A volume of ours from published features [b, v, channels * planes, h, w]."""
    valid = torch.ones(features.shape[:2], dtype=torch.bool)
    turned = features.unflatten(2, (channels, -1)).flip(3, 4)
    return FrustumVolume(turned, cameras, valid, align_corners=True)
