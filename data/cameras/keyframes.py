"""Smooth camera paths through keyframes. Pure geometry, no files.

A keyframe is decomposed into orbit parameters: azimuth and elevation of the camera as seen from the object,
roll about the optical axis, look-at point, distance to it, and focal length. The look-at point is the point
on the optical axis closest to the world origin, where the object is. Each parameter is interpolated through
the keyframes by a Catmull-Rom spline (Catmull and Rom 1974) whose knots are spaced by how far the camera
moves and turns (Barry and Goldman 1988), so the views are nearly evenly paced. Keyframes at one distance from
the object give a path at that distance with the object centred, and level keyframes give a level path. Angles
are interpolated along the shorter arc.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import Cameras, cameras_from_poses
from data.cameras.poses import orbit

NUM_ANGLES = 3  # the first columns of a keyframe's numbers: azimuth, elevation, roll
CLOSEST = 0.05  # smallest look-at distance, as a fraction of the distance to the origin
STRAIGHT = 1e-5  # length of the level part of a unit vector that points straight up or down
SAME = 1e-6  # least difference of consecutive keyframes, in look-at distances or radians


@dataclass(frozen=True)
class CameraPath:
    """Keyframes of a camera path; with `smooth` off they are used as they are, without interpolation."""

    cam_to_world: Float[Tensor, "k 4 4"]  # OpenCV axes
    intrinsics: Float[Tensor, "k 3 3"]  # normalised by image width and height, zero skew
    num: int  # default number of views
    loop: bool = False  # whether the path returns to the first keyframe
    smooth: bool = True

    def cameras(self, num: int | None = None, *, object_radius: float | None = None) -> Cameras:
        """Return `num` views (default: the path's own number); near and far as in `cameras_from_poses`.

        Without smoothing, `num` keyframes are chosen evenly. Raises ValueError if there are fewer, or if two
        consecutive keyframes are identical.
        """
        num = self.num if num is None else num
        if self.smooth:
            poses, intrinsics = along(self.cam_to_world, self.intrinsics, num, loop=self.loop)
        else:
            count = len(self.cam_to_world)
            if num > count:
                raise ValueError(f"{num} views requested, but the path has {count} cameras; request fewer")
            chosen = torch.linspace(0, count - 1, num).round().long()
            poses, intrinsics = self.cam_to_world[chosen], self.intrinsics[chosen]
        return cameras_from_poses(poses, intrinsics, object_radius=object_radius)


def along(
    cam_to_world: Float[Tensor, "k 4 4"], intrinsics: Float[Tensor, "k 3 3"], num: int, *, loop: bool = False
) -> tuple[Float[Tensor, "n 4 4"], Float[Tensor, "n 3 3"]]:
    """Return poses and intrinsics of `num` views, evenly spaced along the path through the keyframes.

    An open path begins at the first keyframe and ends at the last; a loop ends where the next view would be
    the first again. Raises ValueError if two consecutive keyframes are identical.
    """
    numbers = _decompose(cam_to_world.double(), intrinsics.double())
    steps = _steps(numbers, loop=loop)
    if not len(steps):
        places = torch.zeros(num, 1, dtype=torch.float64)
        return _put_together(numbers[:1] + places, cam_to_world, intrinsics)
    lengths = _path_lengths(numbers, cam_to_world[:, :3, 3].double(), steps)
    same = (lengths < SAME).nonzero()
    if len(same):
        first = int(same[0])
        second = (first + 1) % len(numbers)
        raise ValueError(f"keyframes {first} and {second} are the same; remove one of them")
    share = torch.linspace(0, 1, num + 1 if loop else num, dtype=torch.float64)[:num]
    return _put_together(
        catmull_rom(numbers[0], steps, lengths, share * lengths.sum(), loop=loop), cam_to_world, intrinsics
    )


def catmull_rom(
    first: Float[Tensor, "c"],
    steps: Float[Tensor, "s c"],
    lengths: Float[Tensor, "s"],
    places: Float[Tensor, "n"],
    *,
    loop: bool = False,
) -> Float[Tensor, "n c"]:
    """Evaluate a Catmull-Rom curve from `first`, with increments `steps` between knots that are `lengths`
    apart, at the positions `places`, from 0 to the sum of lengths.

    The tangent at a knot is that of the parabola through the knot and its neighbours; at the ends of an open
    curve, that of the chord. A `loop` wraps around.
    """
    slopes = steps / lengths[:, None]
    if loop:
        before, after = slopes.roll(1, dims=0), slopes
        weight = (lengths / (lengths + lengths.roll(1)))[:, None]
        inner = torch.lerp(after, before, weight)
        tangents = torch.cat([inner, inner[:1]])
    else:
        weight = (lengths[1:] / (lengths[1:] + lengths[:-1]))[:, None]
        inner = torch.lerp(slopes[1:], slopes[:-1], weight)
        tangents = torch.cat([slopes[:1], inner, slopes[-1:]])
    knots = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    values = torch.cat([first[None], first + steps.cumsum(0)])
    at = (torch.searchsorted(knots, places, right=True) - 1).clamp(0, len(steps) - 1)
    length = lengths[at, None]
    t = (places - knots[at])[:, None] / length
    # Hermite basis.
    return (
        (1 + 2 * t) * (1 - t) ** 2 * values[at]
        + t * (1 - t) ** 2 * length * tangents[at]
        + t**2 * (3 - 2 * t) * values[at + 1]
        - t**2 * (1 - t) * length * tangents[at + 1]
    )


def looked_at(cam_to_world: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 3"]:
    """Return the point on the optical axis closest to the origin, in front of the camera."""
    position, forward = cam_to_world[..., :3, 3], cam_to_world[..., :3, 2]
    depth = -(position * forward).sum(dim=-1, keepdim=True)
    return position + forward * torch.maximum(depth, CLOSEST * position.norm(dim=-1, keepdim=True))


def _decompose(poses: Tensor, intrinsics: Tensor) -> Float[Tensor, "k c"]:
    """Decompose into azimuth, elevation, roll, log distance, look-at point, log focals, principal point."""
    right, outward = poses[:, :3, 0], -poses[:, :3, 2]
    # Straight above the object, the image's right axis defines the azimuth.
    straight = outward[:, :2].norm(dim=-1) < STRAIGHT
    azimuth = torch.where(
        straight, torch.atan2(-right[:, 0], right[:, 1]), torch.atan2(outward[:, 1], outward[:, 0])
    )
    elevation = torch.atan2(outward[:, 2], outward[:, :2].norm(dim=-1))
    level = orbit(azimuth, elevation)[:, :3, :2]  # right and down axes of a level camera
    roll = torch.atan2((right * level[..., 1]).sum(dim=-1), (right * level[..., 0]).sum(dim=-1))
    target = looked_at(poses)
    distance = (poses[:, :3, 3] - target).norm(dim=-1).log()
    focal = intrinsics.diagonal(dim1=1, dim2=2)[:, :2].log()
    angles = torch.stack([azimuth, elevation, roll, distance], dim=-1)
    return torch.cat([angles, target, focal, intrinsics[:, :2, 2]], dim=-1)


def _put_together(
    numbers: Float[Tensor, "n c"], poses_like: Tensor, intrinsics_like: Tensor
) -> tuple[Float[Tensor, "n 4 4"], Float[Tensor, "n 3 3"]]:
    azimuth, elevation, roll, distance = numbers[:, :4].unbind(-1)
    poses = orbit(azimuth, elevation, 1.0)
    outward, (right, down) = poses[:, :3, 3].clone(), poses[:, :3, :2].clone().unbind(-1)
    cos, sin = roll.cos()[:, None], roll.sin()[:, None]
    poses[:, :3, 0], poses[:, :3, 1] = cos * right + sin * down, cos * down - sin * right
    poses[:, :3, 3] = numbers[:, 4:7] + distance.exp()[:, None] * outward
    intrinsics = torch.eye(3, dtype=numbers.dtype).repeat(len(numbers), 1, 1)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = numbers[:, 7:9].exp().unbind(-1)
    intrinsics[:, :2, 2] = numbers[:, 9:11]
    return poses.to(poses_like), intrinsics.to(intrinsics_like)


def _steps(numbers: Float[Tensor, "k c"], *, loop: bool) -> Float[Tensor, "s c"]:
    """Return the differences between consecutive keyframes; angles along the shorter arc."""
    steps = (numbers.roll(-1, dims=0) - numbers)[: len(numbers) if loop and len(numbers) > 1 else -1]
    turns = (steps[:, :NUM_ANGLES] + math.pi) % (2 * math.pi) - math.pi
    return torch.cat([turns, steps[:, NUM_ANGLES:]], dim=-1)


def _path_lengths(numbers: Float[Tensor, "k c"], positions: Tensor, steps: Tensor) -> Float[Tensor, "s"]:
    """Return how far the camera moves and turns between consecutive keyframes: translation in units of the
    look-at distance (geometric mean), rotation and change of the field of view in radians, equally weighted.
    """
    distance = numbers[:, 3].mean().exp()
    moved = (positions.roll(-1, dims=0) - positions)[: len(steps)].norm(dim=-1) / distance
    # High above the object, a change of azimuth moves the camera little but rotates the image.
    turned = steps[:, 0] * (numbers[: len(steps), 1] + steps[:, 1] / 2).sin()
    camera = torch.stack([moved, turned, steps[:, 2]], dim=-1).norm(dim=-1)
    return camera + steps[:, 4:7].norm(dim=-1) / distance + steps[:, 7:].norm(dim=-1)
