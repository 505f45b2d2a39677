"""Feature volumes aligned with the viewing frusta of source cameras (Chan et al. 2023).

Axes: b scene, s source view, n point, c feature, d depth plane, h, w.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from data.cameras.pinhole import Cameras

SMALLEST_DEPTH = 1e-6  # scene units; points closer or behind the camera are projected at this depth


@dataclass(frozen=True)
class FrustumVolume:
    """Feature planes over the working volume of each source camera.

    Columns and rows of `features` are the pixels of the source image; plane 0 is at the camera's near depth,
    the last plane at its far depth, the others evenly spaced in between.
    """

    features: Float[Tensor, "b s c d h w"]
    cameras: Cameras  # batch shape [b, s]
    valid: Bool[Tensor, "b s"]
    # Whether the centres of the outermost texels, instead of their outer edges, are on the image border: as
    # in the published code, half a texel off.
    align_corners: bool = False

    def coordinates(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b s n 3"]:
        """Project world points to each frustum: (x right, y down, z away), from -1 to 1 between its faces.

        x and y are -1 and 1 at the image borders, z at the near and far planes. Points behind the camera end
        up far outside.
        """
        in_camera = self.cameras.to_camera(points[:, None].expand(-1, self.valid.shape[1], -1, -1))
        depth = in_camera[..., 2:]
        direction = in_camera[..., :2] / depth.clamp_min(SMALLEST_DEPTH)
        homogeneous = torch.cat([direction, torch.ones_like(depth)], dim=-1)
        image = homogeneous @ self.cameras.intrinsics.transpose(-1, -2)
        near, far = self.cameras.near[..., None, None], self.cameras.far[..., None, None]
        return torch.cat([2 * image[..., :2] - 1, 2 * (depth - near) / (far - near) - 1], dim=-1)

    def sample(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b s n c"]:
        """Return trilinear features at world points, clamped to the border outside a frustum."""
        return self._features_at(self.coordinates(points))

    def inside(self, points: Float[Tensor, "b n 3"]) -> Bool[Tensor, "b s n"]:
        """Return which points are inside each frustum."""
        return _within(self.coordinates(points))

    def look_up(
        self, points: Float[Tensor, "b n 3"]
    ) -> tuple[Float[Tensor, "b s n c"], Bool[Tensor, "b s n"]]:
        """Return `sample` and `inside` with a single projection."""
        coordinates = self.coordinates(points)
        return self._features_at(coordinates), _within(coordinates)

    def _features_at(self, coordinates: Float[Tensor, "b s n 3"]) -> Float[Tensor, "b s n c"]:
        b, s, _, d, _, _ = self.features.shape
        # Without align_corners, -1 and 1 are the outer edges of the texels. That holds for pixels but not for
        # planes: the outermost planes are on the faces themselves.
        scale = 1.0 if self.align_corners else (d - 1) / d
        at = torch.cat([coordinates[..., :2], scale * coordinates[..., 2:]], dim=-1)
        found = F.grid_sample(
            self.features.flatten(0, 1),
            at.flatten(0, 1)[:, None, None],
            padding_mode="border",
            align_corners=self.align_corners,
        )
        return found[:, :, 0, 0].unflatten(0, (b, s)).transpose(-1, -2)

    def with_mirrored(self, axis: Literal["x", "y", "z"]) -> "FrustumVolume":
        """Append mirror images of the volumes along s, reflected in the plane with normal `axis`.

        For objects with this symmetry plane, every photo then also provides features of the hidden side.
        """
        cameras = self.cameras.mirrored(axis)
        poses = torch.cat([self.cameras.cam_to_world, cameras.cam_to_world], dim=1)
        intrinsics = torch.cat([self.cameras.intrinsics, cameras.intrinsics], dim=1)
        near, far = (torch.cat([bound, bound], dim=1) for bound in (cameras.near, cameras.far))
        # Channels last in memory, as renderers read volumes.
        features = self.features.permute(0, 1, 4, 5, 3, 2)
        features = torch.cat([features, features.flip(3)], dim=1).permute(0, 1, 5, 4, 2, 3)
        valid = torch.cat([self.valid, self.valid], dim=1)
        return replace(self, features=features, cameras=Cameras(poses, intrinsics, near, far), valid=valid)

    def apply(self, function: Callable[[Tensor], Tensor]) -> "FrustumVolume":
        """Return the volume with `function` applied to every tensor (a slice, a reshape)."""
        parts = function(self.features), self.cameras.apply(function), function(self.valid)
        return FrustumVolume(*parts, align_corners=self.align_corners)


def _within(coordinates: Float[Tensor, "b s n 3"]) -> Bool[Tensor, "b s n"]:
    return (coordinates.abs() <= 1).all(dim=-1)
