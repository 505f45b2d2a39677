"""Old name of `models.checkpoints.loading.load_model`, kept for existing scripts and notebooks."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "load_model":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return import_module("models.checkpoints.loading").load_model
