"""Similarity of two camera trajectories: the statistics of True Pose Similarity (arXiv:2510.13063).

Trajectories are world-to-camera matrices [v 4 4]. Rotations and directions are compared over all pairs of
frames, so that a rigid change of the world or its scale does not matter. As published, the sign of directions
is ignored and the fitted scale may be negative: a trajectory that runs backwards scores perfectly. `signed`
ignores neither.
"""

import torch
from jaxtyping import Float
from torch import Tensor

THRESHOLDS_DEG = (3, 5, 10, 15, 20, 30)
BINS, WIDEST_DEG = 31, 30.0  # of the histogram whose cumulative mean is the AUC


def trajectory_similarity(
    found: Float[Tensor, "v 4 4"], truth: Float[Tensor, "v 4 4"], *, signed: bool
) -> dict[str, float]:
    """Errors of centres in scene units; shares of pairs below each threshold in degrees, and their AUCs."""
    rotation, direction = pair_errors(found, truth, signed=signed)
    errors = {"Rot": rotation, "Trans": direction, "SE3": torch.maximum(rotation, direction)}
    figures = dict(
        zip(
            ("traj_err_unscaled", "traj_err_scale_invariant"),
            centre_errors(found, truth, signed=signed),
            strict=True,
        )
    )
    for threshold in THRESHOLDS_DEG:
        figures[f"Rac_{threshold}"] = (rotation < threshold).double().mean().item()
        figures[f"Tac_{threshold}"] = (direction < threshold).double().mean().item()
        figures |= {f"{name}_Auc_{threshold}": auc(error, threshold) for name, error in errors.items()}
    return figures


def pair_errors(
    found: Float[Tensor, "v 4 4"], truth: Float[Tensor, "v 4 4"], *, signed: bool
) -> tuple[Float[Tensor, "k"], Float[Tensor, "k"]]:
    """Angles in degrees between the relative rotations and directions of all pairs of frames."""
    first, second = torch.triu_indices(len(found), len(found), offset=1)
    moves = [poses[first].double() @ poses[second].double().inverse() for poses in (found, truth)]
    turn = moves[0][:, :3, :3] @ moves[1][:, :3, :3].mT
    cosine = (turn.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2
    directions = [torch.nn.functional.normalize(move[:, :3, 3], dim=1) for move in moves]
    along = (directions[0] * directions[1]).sum(dim=1)
    along = along if signed else along.abs()
    return tuple(value.clamp(-1, 1).acos().rad2deg() for value in (cosine, along))


def centre_errors(
    found: Float[Tensor, "v 4 4"], truth: Float[Tensor, "v 4 4"], *, signed: bool
) -> tuple[float, float]:
    """Mean absolute difference of the centres' coordinates: as they are, and at the best scale.

    Neither is invariant to a rigid change of the world: give trajectories with the same start (`anchored`).
    """
    ours, theirs = (poses.double().inverse()[:, :3, 3] for poses in (found, truth))
    scale = (ours * theirs).sum() / (ours * ours).sum().clamp_min(1e-12)
    scale = scale.clamp_min(0) if signed else scale
    distances = ((ours - theirs), (scale * ours - theirs))
    return tuple(distance.abs().mean().item() for distance in distances)


def auc(errors_deg: Float[Tensor, "k"], threshold: int) -> float:
    """Mean over the first `threshold` bins of the cumulative histogram, 30/31 degrees wide each."""
    counts = torch.histc(errors_deg.double(), bins=BINS, min=0, max=WIDEST_DEG)
    return (counts.cumsum(0) / len(errors_deg))[:threshold].mean().item()


def anchored(world_to_cam: Float[Tensor, "v 4 4"]) -> Float[Tensor, "v 4 4"]:
    """The same trajectory in the coordinates of its first camera."""
    return world_to_cam @ world_to_cam[0].inverse()
