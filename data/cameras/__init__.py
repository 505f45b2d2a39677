"""Cameras: pinhole projection, poses, paths and their files.

Camera paths by name or from a file: `trajectories`. Their shapes: `poses`. Smooth paths through keyframes, as
saved by the viewer: `keyframes` and `path_files`. Rays and projection: `pinhole`.
"""

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
