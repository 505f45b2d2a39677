"""Trajectories compared, beside published figures and in cases with a known answer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data.cameras.trajectory_similarity import anchored, trajectory_similarity

FOLDER = Path(__file__).parents[2] / "reference" / "xfactor"
EXPECTED = json.loads((FOLDER / "tps_expected.json").read_text())


def trajectories() -> dict[str, torch.Tensor]:
    with np.load(FOLDER / "tps.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("number", [0, 1])
def test_the_published_form_gives_the_published_figures(name, number):
    known = trajectories()
    found = trajectory_similarity(known[f"pred_{name}"][number], known["target_T_cw"][number], signed=False)
    assert found.keys() == EXPECTED[name].keys()
    for key, value in found.items():
        assert value == pytest.approx(EXPECTED[name][key][number], abs=1e-6), key


def test_a_trajectory_that_runs_backwards_fails_the_signed_form_alone():
    known = trajectories()
    pair = known["pred_centres_negated"][0], known["target_T_cw"][0]
    published, signed = (trajectory_similarity(*pair, signed=value) for value in (False, True))
    assert published["SE3_Auc_20"] == pytest.approx(1)
    assert signed["SE3_Auc_20"] == signed["Tac_30"] == 0
    assert signed["traj_err_scale_invariant"] > 0.5 > published["traj_err_scale_invariant"]


@pytest.mark.parametrize("signed", [False, True])
def test_scale_and_a_moved_world_do_not_matter(signed):
    truth = trajectories()["target_T_cw"][1]
    moved = truth @ trajectories()["target_T_cw"][0][3]
    scaled = truth.clone()
    scaled[:, :3, 3] *= 3
    for found in (moved, scaled):
        figures = trajectory_similarity(anchored(found), anchored(truth), signed=signed)
        assert figures["SE3_Auc_30"] == pytest.approx(1)
        assert figures["traj_err_scale_invariant"] == pytest.approx(0, abs=1e-9)
