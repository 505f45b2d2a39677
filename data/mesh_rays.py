"""Where a mesh lies in a picture, and the rays through its pixels.

Axes: n vertex, r ray. Cameras are OpenCV, camera-to-world; intrinsics are divided by the picture's size
(height, width).
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def project_box(
    vertices: Float[ndarray, "n 3"],
    pose: Float[ndarray, "4 4"],
    intrinsics: Float[ndarray, "3 3"],
    size: tuple[int, int],
) -> tuple[Float[ndarray, "n"], tuple[int, int, int, int]]:
    """Depth of every vertex, and the pixels (top, bottom, left, right) that can see any of them."""
    height, width = size
    in_camera = (vertices - pose[:3, 3]) @ pose[:3, :3]
    if in_camera[:, 2].min() < 1e-6:  # the mesh reaches behind the camera: its projection has no bounds
        return in_camera[:, 2], (0, height, 0, width) if in_camera[:, 2].max() > 0 else (0, 0, 0, 0)
    projected = in_camera @ intrinsics.T
    points = projected[:, :2] / projected[:, 2:] * [width, height]
    left, top = np.clip(np.floor(points.min(0)), 0, [width, height]).astype(int).tolist()
    right, bottom = np.clip(np.ceil(points.max(0)), 0, [width, height]).astype(int).tolist()
    return in_camera[:, 2], (top, bottom, left, right)


def ray_directions(
    x: Float[ndarray, "*places"],
    y: Float[ndarray, "*places"],
    pose: Float[ndarray, "4 4"],
    intrinsics: Float[ndarray, "3 3"],
    size: tuple[int, int],
) -> Float[ndarray, "r 3"]:
    """World directions, one unit deep, through pixel positions (0.5: centre of the first pixel)."""
    height, width = size
    pixels = np.stack([x.ravel() / width, y.ravel() / height, np.ones(x.size)], axis=1)
    return pixels @ np.linalg.inv(intrinsics).T @ pose[:3, :3].T
