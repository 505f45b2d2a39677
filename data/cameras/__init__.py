"""Cameras: pinhole projection, poses, paths and their files."""

from data.lazy import lazy_names

# Public name -> module; imported lazily.
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
__getattr__ = lazy_names(__name__, _WHERE)
