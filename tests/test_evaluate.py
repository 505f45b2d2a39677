"""scripts/evaluate.py: how the shape of a volume is judged."""

from dataclasses import replace

import pytest
import torch
from scenes import cameras

from data.batch import Geometry, Views
from models.base import Prediction
from scripts.evaluate import geometry_figures


def test_depth_is_judged_where_a_pixel_is_covered_whole_and_silhouettes_by_their_overlap():
    seen_by = cameras(1, 2)
    pose = seen_by.cam_to_world.clone()
    pose[..., :3, 3] += 0.3 * pose[..., :3, 0] + 0.1 * pose[..., :3, 2]  # now it looks past the origin
    distance = seen_by.positions.norm(dim=-1) - 0.1
    seen_by = replace(seen_by, cam_to_world=pose)
    alpha, depth = torch.zeros(1, 2, 3, 5), torch.zeros(1, 2, 3, 5)
    alpha[:, :, 1:, 1:] = 1
    alpha[:, :, 1, 1] = 0.9  # shown, but not whole
    depth[alpha > 0] = 1.2
    truth = Views(
        torch.zeros(1, 2, 3, 3, 5), seen_by, torch.ones(1, 2, dtype=torch.bool), Geometry(depth, alpha)
    )
    opacity = torch.zeros(1, 2, 1, 3, 5)
    opacity[..., 1:, :4] = 0.8  # 6 of the 8 pixels shown, and two more
    guess = torch.full((1, 2, 1, 3, 5), 1.15)
    guess[..., 0, :], guess[..., 1, 1] = 9.0, 9.0
    images = torch.zeros(1, 2, 3, 3, 5)
    found = geometry_figures(Prediction(images, images, guess, opacity), truth)
    assert found["depth_error"] == pytest.approx(50, rel=1e-4)
    assert found["flat_depth_error"] == pytest.approx(1000 * (distance - 1.2).abs().mean().item(), rel=1e-4)
    assert found["silhouette_iou"] == pytest.approx(100 * 6 / 10)
