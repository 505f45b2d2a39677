"""Small asymmetric scenes for tests: cameras round the origin, pictures, batches, the tiniest model."""

import copy
import math
import os
import tempfile
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from config.run import validate_config
from data.cameras.pinhole import Cameras, cameras_from_poses
from data.cameras.poses import orbit
from data.scenes.batch import SceneBatch, Views, valid_indices
from models.base import NVSModel
from models.training.interruption import StopSignal

TINY_BASE = Path(tempfile.gettempdir()) / f"tiny_base_{os.getpid()}"  # see `require_base`
TINY_MODEL: dict[str, Any] = {
    "family": "genvs",
    "encoder": {
        "backbone": "tu-tf_mobilenetv3_small_minimal_100",  # half a million weights
        "weights": None,
        "channels": 2,
        "planes": 4,
        "dilations": [1, 2, 3],
    },
    "renderer": {"size": 8, "latent_channels": 4, "coarse": 5, "fine": 3, "field": {"hidden": 7}},
    "denoiser": {
        "channels": [32, 32],
        "depths": [1, 1],
        "self_attention": [False, True],
        "mapping_width": 16,
    },
}
TINY_FAMILIES: dict[str, dict[str, Any]] = {  # a new family adds its smallest model here
    "genvs": TINY_MODEL,
    "pixelnerf": {
        "family": "pixelnerf",
        "encoder": TINY_MODEL["encoder"],
        "renderer": {"size": 8, "coarse": 5, "fine": 3, "field": {"hidden": 7}},
    },
    "xfactor": {
        "family": "xfactor",
        "network": {"width": 16, "heads": 2, "layers": 1, "patch": 4, "pose_size": 6, "pose_tokens": 2},
        "loss": {"perceptual": 0},
    },
    "image_diffusion": {
        "family": "image_diffusion",
        "denoiser": TINY_MODEL["denoiser"],
        "condition_channels": 5,
    },
    "viewfusion": {
        "family": "viewfusion",
        "unet": {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [False, True], "groups": 4},
        "angle": {"encoding": "harmonics", "elevation": True},
    },
    **{
        family: {
            "family": family,
            "encoder": TINY_MODEL["encoder"],
            "renderer": TINY_MODEL["renderer"],
            "base": {"path": str(TINY_BASE)},
        }
        for family in ("controlnet", "multiview")
    },
    "viewneti": {
        "family": "viewneti",
        "base": {"path": str(TINY_BASE), "width": 24, "layers": 10},
        "object": {"word": "car"},
        "prompts": ["{view} a {object}"],
        "camera": {"representation": "spherical", "smallest": [0, -180], "largest": [180, 180]},
    },
}
GROWN: dict[str, Any] = {
    "channels": [32, 32, 32],
    "depths": [1, 1, 1],
    "self_attention": [False, False, True],
}
STAGES: dict[str, dict[str, Any]] = {  # of a recipe of the tiniest model
    "volumes": {"model": {"loss": {"diffusion": 0}}, "train": {"steps": 2}},
    "denoiser": {"optim": {"lr_scale": {"encoder": 0, "renderer": 0}}, "train": {"steps": 3}},
    "grown": {"model": {"denoiser": GROWN}, "data": {"image_size": 32}, "train": {"steps": 1}},
}


class StopsAfter(StopSignal):
    """A signal that comes once `passes` have been made, of those that one call makes."""

    def __init__(self, passes: int):
        super().__init__()
        self._left = passes

    def abandonable(self, wanted: bool = True) -> AbstractContextManager:
        """Entered once a pass."""
        self.requested = self._left == 0
        self._left -= 1
        return super().abandonable(wanted)


def cameras(*batch: int, seed: int = 0, object_radius: float = 0.6) -> Cameras:
    """Cameras [*batch] that look at the origin from anywhere, with unequal focal lengths, off-centre."""
    generator = torch.Generator().manual_seed(seed)
    count = math.prod(batch)
    draw = torch.rand(5, count, generator=generator)
    poses = torch.cat(
        [
            orbit(6 * draw[0, i : i + 1], draw[1, i : i + 1], 1.2 + 0.3 * float(draw[2, i]))
            for i in range(count)
        ]
    )
    intrinsics = torch.zeros(count, 3, 3)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = 0.9 + 0.2 * draw[3], 1.3 + 0.2 * draw[4]
    intrinsics[:, 0, 2], intrinsics[:, 1, 2], intrinsics[:, 2, 2] = 0.45, 0.53, 1
    flat = cameras_from_poses(poses, intrinsics, object_radius=object_radius)
    return flat.apply(lambda tensor: tensor.unflatten(0, batch))


def views(*batch: int, size: tuple[int, int] = (16, 16), seed: int = 0) -> Views:
    """Pictures of noise, all valid."""
    generator = torch.Generator().manual_seed(seed)
    images = 2 * torch.rand(*batch, 3, *size, generator=generator) - 1
    return Views(images, cameras(*batch, seed=seed), torch.ones(*batch, dtype=torch.bool))


def scene_batch(valid: list[list[bool]], *, num_target: int = 1, first_seed: int = 100) -> SceneBatch:
    """A scene for each row of `valid`, whose entries are its source views."""
    source = views(len(valid), len(valid[0]), seed=first_seed)
    return SceneBatch(
        source=Views(source.images, source.cameras, torch.tensor(valid)),
        target=views(len(valid), num_target, seed=first_seed + 1),
        scene_ids=tuple(f"scene{i}" for i in range(len(valid))),
        seeds=torch.arange(first_seed, first_seed + len(valid)),
    )


def ready_batch(valid: list[list[bool]], **options: int) -> SceneBatch:
    """`scene_batch` as a loader makes it: it is known on the CPU where the padding is."""
    batch = scene_batch(valid, **options)
    return replace(batch, source_indices=valid_indices(batch.source.valid))


def scene(batch: SceneBatch, index: int) -> SceneBatch:
    """One scene of a batch, as a batch of one."""
    chosen = batch.apply(lambda tensor: tensor[index : index + 1])
    return SceneBatch(
        chosen.source, chosen.target, batch.scene_ids[index : index + 1], batch.seeds[index : index + 1]
    )


def tiny_model(**changes: Any) -> NVSModel:
    """The tiniest GeNVS; no weight is left at zero, so that every input matters. `changes` are by section."""
    from models.genvs.model import GeNVS, GeNVSConfig

    document = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY_MODEL.items()}
    for key, value in changes.items():
        document[key] = document.get(key, {}) | value if isinstance(value, dict) else value
    torch.manual_seed(3)
    model = GeNVS(GeNVSConfig.model_validate(document))
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return model


def reconfigured(model: NVSModel, **changes: Any) -> NVSModel:
    """The same weights under a changed config; `changes` are by section."""
    other = copy.copy(model)
    other.config = model.config.model_validate(
        {
            key: value | changes.get(key, {}) if isinstance(value, dict) else changes.get(key, value)
            for key, value in model.config.model_dump(mode="json").items()
        }
    )
    return other


def run_document(root: object, runs: object, **changes: Any) -> dict[str, Any]:
    """A run of the tiniest model on the data in `root`, as plain JSON data; `changes` are by section."""
    document: dict[str, Any] = {
        "name": "tiny",
        "runs": str(runs),
        "model": TINY_MODEL,
        "data": {"root": str(root), "image_size": 16, "sources": [1, 2], "targets": 1},
        "optim": {"lr": 1e-3, "warmup": 2, "ema": 0.9},
        "train": {
            "steps": 3,
            "batch": 2,
            "log_every": 1,
            "save_every": 100,
            "preview_every": 0,
            "device": "cpu",
            "precision": "float32",  # on every machine: what auto chooses is tests/models/test_precision.py's
        },
        "sample": {"steps": 2},
    }
    for key, value in changes.items():
        document[key] = document[key] | value if isinstance(document.get(key), dict) else value
    validate_config(document, "test")
    return document


def as_double(tensor: Tensor) -> Tensor:
    """Floating-point tensors in float64, others as they are."""
    return tensor.double() if tensor.is_floating_point() else tensor
