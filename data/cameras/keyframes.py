"""Smooth camera paths through keyframes. Pure geometry, no files.

A keyframe is taken apart into what a person behind a camera turns: azimuth and elevation of the way from the
object to the camera, the picture's roll against the horizon, the point that is looked at, the distance to it,
and the lens. That point is the one on the optical axis nearest to the world's origin, where the object is.
Each of these goes through its values at the keyframes along a Catmull-Rom curve (Catmull and Rom 1974), with
knots as far apart as the camera travels and turns (Barry and Goldman 1988), so that views follow each other
at a nearly even pace. Keyframes that look at the object from one distance thus give a path at that distance
with the object in the middle, and level ones a level path: a path rolls only where keyframes do. Angles go
the shorter way round.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import Cameras, cameras_from_poses
from data.cameras.poses import orbit

NUM_ANGLES = 3  # the first columns of a keyframe's numbers: azimuth, elevation, roll
CLOSEST = 0.05  # of the distance to the origin, to the point that is looked at
STRAIGHT = 1e-5  # length of the level part of a unit vector that points straight up or down
SAME = 1e-6  # distances to the object and radians by which keyframes that follow each other must differ


@dataclass(frozen=True)
class CameraPath:
    """Cameras to go through, or, with `smooth` off, to take one by one as they are."""

    cam_to_world: Float[Tensor, "k 4 4"]  # OpenCV axes
    intrinsics: Float[Tensor, "k 3 3"]  # in units of the picture's width and height, without skew
    num: int  # views that are made along the path unless others are asked for
    loop: bool = False  # whether it leads back to the first keyframe
    smooth: bool = True

    def cameras(self, num: int | None = None, *, object_radius: float | None = None) -> Cameras:
        """The cameras of `num` views (None: of the path's own number); near and far as in
        `cameras_from_poses`.

        Of cameras taken as they are, `num` are evenly chosen. Raises ValueError if there are fewer, or two
        keyframes that follow each other are the same.
        """
        num = self.num if num is None else num
        if self.smooth:
            poses, intrinsics = along(self.cam_to_world, self.intrinsics, num, loop=self.loop)
        else:
            count = len(self.cam_to_world)
            if num > count:
                raise ValueError(f"{num} views are asked for, but the path has {count}; ask for fewer")
            chosen = torch.linspace(0, count - 1, num).round().long()
            poses, intrinsics = self.cam_to_world[chosen], self.intrinsics[chosen]
        return cameras_from_poses(poses, intrinsics, object_radius=object_radius)


def along(
    cam_to_world: Float[Tensor, "k 4 4"], intrinsics: Float[Tensor, "k 3 3"], num: int, *, loop: bool = False
) -> tuple[Float[Tensor, "n 4 4"], Float[Tensor, "n 3 3"]]:
    """Poses and intrinsics of `num` views, evenly along the path through keyframes.

    An open path begins at the first keyframe and ends at the last; a loop ends where the next view would be
    the first again. Raises ValueError if two keyframes that follow each other are the same.
    """
    numbers = _taken_apart(cam_to_world.double(), intrinsics.double())
    steps = _steps(numbers, loop=loop)
    if not len(steps):
        places = torch.zeros(num, 1, dtype=torch.float64)
        return _put_together(numbers[:1] + places, cam_to_world, intrinsics)
    lengths = _travel(numbers, cam_to_world[:, :3, 3].double(), steps)
    same = (lengths < SAME).nonzero()
    if len(same):
        first = int(same[0])
        second = (first + 1) % len(numbers)
        raise ValueError(f"keyframes {first} and {second} are the same; leave one of them out")
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
    """A Catmull-Rom curve from `first`, by `steps` from knot to knot that are `lengths` apart, at `places`
    from 0 to the sum of lengths.

    At a knot it goes in the direction of the parabola through the knot and its neighbours; at the ends of an
    open curve, in that of the chord. A `loop` goes on after its last step as after its beginning.
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
    # Hermite's basis.
    return (
        (1 + 2 * t) * (1 - t) ** 2 * values[at]
        + t * (1 - t) ** 2 * length * tangents[at]
        + t**2 * (3 - 2 * t) * values[at + 1]
        - t**2 * (1 - t) * length * tangents[at + 1]
    )


def looked_at(cam_to_world: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 3"]:
    """The point on the optical axis nearest to the origin, but before the camera."""
    position, forward = cam_to_world[..., :3, 3], cam_to_world[..., :3, 2]
    depth = -(position * forward).sum(dim=-1, keepdim=True)
    return position + forward * torch.maximum(depth, CLOSEST * position.norm(dim=-1, keepdim=True))


def _taken_apart(poses: Tensor, intrinsics: Tensor) -> Float[Tensor, "k c"]:
    """Azimuth, elevation, roll; logarithm of the distance, point looked at; logarithms of the focal lengths,
    principal point."""
    right, outward = poses[:, :3, 0], -poses[:, :3, 2]
    # Straight above the object, the azimuth is what a level picture's right says.
    straight = outward[:, :2].norm(dim=-1) < STRAIGHT
    azimuth = torch.where(
        straight, torch.atan2(-right[:, 0], right[:, 1]), torch.atan2(outward[:, 1], outward[:, 0])
    )
    elevation = torch.atan2(outward[:, 2], outward[:, :2].norm(dim=-1))
    level = orbit(azimuth, elevation)[:, :3, :2]  # right and down of a level picture
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
    """From each keyframe to the next; angles go the shorter way round."""
    steps = (numbers.roll(-1, dims=0) - numbers)[: len(numbers) if loop and len(numbers) > 1 else -1]
    turns = (steps[:, :NUM_ANGLES] + math.pi) % (2 * math.pi) - math.pi
    return torch.cat([turns, steps[:, NUM_ANGLES:]], dim=-1)


def _travel(numbers: Float[Tensor, "k c"], positions: Tensor, steps: Tensor) -> Float[Tensor, "s"]:
    """How far the camera goes and turns from each keyframe to the next: in distances to the point that is
    looked at (their geometric mean), and in radians of the picture's turn and of the lens, one as much as the
    other."""
    distance = numbers[:, 3].mean().exp()
    moved = (positions.roll(-1, dims=0) - positions)[: len(steps)].norm(dim=-1) / distance
    # High above the object, a way round it moves the camera little, but turns the picture.
    turned = steps[:, 0] * (numbers[: len(steps), 1] + steps[:, 1] / 2).sin()
    camera = torch.stack([moved, turned, steps[:, 2]], dim=-1).norm(dim=-1)
    return camera + steps[:, 4:7].norm(dim=-1) / distance + steps[:, 7:].norm(dim=-1)
