"""The smallest model of the main family, untrained, and a checkpoint of it."""

from pathlib import Path

import torch

from config.families import family
from config.run import RunConfig, validate_config
from models.base import NVSModel
from models.checkpoints.format import checkpoint_path
from models.training.ema import EMA
from models.training.optimizer import make_optimizer
from models.training.run_directory import save_checkpoint
from tests.scenes import TINY_MODEL

STEPS = 3


def tiny_config(root: Path, runs: Path) -> RunConfig:
    """A run on the data in `root`."""
    document = {
        "name": "tiny",
        "runs": str(runs),
        "model": {
            "encoder": TINY_MODEL["encoder"],
            "renderer": {"size": 8, "latent_channels": 4, "coarse": 4, "fine": 0, "field": {"hidden": 8}},
            "denoiser": {"channels": [32], "depths": [1], "self_attention": [False], "mapping_width": 16},
        },
        "data": {"root": str(root), "image_size": 32, "sources": [1, 1]},
        "train": {"precision": "float32"},  # whatever the CPU has
        "sample": {"sampler": "dpmpp_2m", "steps": STEPS},
    }
    return validate_config(document, "tiny")


def tiny_model(config: RunConfig) -> NVSModel:
    """Weights are random, also those that begin as zeros, so that every input matters."""
    torch.manual_seed(5)
    model = family(config.model.family)(config.model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() and not parameter.any():
                parameter.normal_(std=0.05)
    return model.eval()


def save_tiny_run(config: RunConfig) -> Path:
    """A run directory with one checkpoint."""
    model = tiny_model(config)
    path = checkpoint_path(config.folder, 7)
    optimizer = make_optimizer(model, config.optim)
    ema = EMA(model, config.optim.ema)
    save_checkpoint(path, model, ema, optimizer, step=7, config=config.model_dump(mode="json"))
    return config.folder
