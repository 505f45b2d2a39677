"""Where rays begin and end, other than at near and far of their camera."""

from dataclasses import replace

import torch

from data.cameras import Rays

ELSEWHERE = 1e9  # scene units; rays that miss begin and end there, and have no length
PARALLEL = 1e-15  # keeps the quotient finite for rays along a face


def within_cube(rays: Rays, nearest: float) -> Rays:
    """Rays from where they enter the cube from -1 to 1, at least `nearest` from the camera, to where they
    leave it (the slab test of Kay and Kajiya 1986)."""
    to_low = (-1 - rays.origins) / (rays.directions + PARALLEL)
    to_high = (1 - rays.origins) / (rays.directions + PARALLEL)
    enter = torch.minimum(to_low, to_high).amax(dim=-1)
    leave = torch.maximum(to_low, to_high).amin(dim=-1)
    missed = leave < enter
    near = torch.where(missed, ELSEWHERE, enter.clamp_min(nearest))
    return replace(rays, near=near, far=torch.where(missed, near, torch.maximum(leave, near)))
