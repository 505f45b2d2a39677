"""Cameras: pinhole projection, poses, paths and their files."""

from importlib import import_module
from typing import Any

# Public name -> module; imported when it is first asked for.
_WHERE = {
    "Cameras": "pinhole",
    "pinhole": "pinhole",
    "cameras_from_poses": "pinhole",
    "SRN_RADIUS": "poses",
    "look_at": "poses",
    "orbit": "poses",
    "srn_test_path": "poses",
    "spiral": "poses",
    "turntable": "poses",
    "circle": "poses",
    "trajectory": "trajectories",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
