"""Keys of `transforms.json` files: those honoured, those without effect, those refused; others are named.

The format has no standard. Keys are those of nerfstudio, instant-ngp (and its colmap2nerf), and Blender's
synthetic scenes. A key that is null, false, zero or empty is as good as missing wherever it would be refused
or named.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data.splits import Split

# Of these, the first that is there counts. A frame's own focal length replaces that of the document.
FOCAL_X = ("fl_x", "camera_angle_x", "x_fov")
FOCAL_Y = ("fl_y", "camera_angle_y", "y_fov")
SPLIT_LISTS: dict[str, Split] = {
    "train_filenames": "train",
    "val_filenames": "val",
    "test_filenames": "test",
}
PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE")  # without distortion they are one and the same
HONOURED = {
    *FOCAL_X, *FOCAL_Y, *SPLIT_LISTS, "w", "h", "cx", "cy", "camera_model",
    "frames", "file_path", "transform_matrix", "mask_path", "up",
}  # fmt: skip
# About other programs' volumes, about files that are not read, or about how the file was made.
HARMLESS = {
    # instant-ngp
    "aabb", "aabb_scale", "render_aabb", "render_aabb_to_local", "scale", "offset", "sharpness", "n_frames",
    "sharpness_discard_threshold", "n_extra_learnable_dims", "wants_importance_sampling", "white_transparent",
    "fix_premult", "enable_ray_loading", "envmap", "frame_rate", "video_path",
    # depth, normals and semantics, which are not read
    "depth_path", "depth_file_path", "depth_unit_scale_factor", "enable_depth_loading", "integer_depth_scale",
    "depth_mask_path", "normal_file_path", "semantics_path", "segmentation_path",
    # nerfstudio: what was done to the poses already, or would be done to them there
    "applied_transform", "applied_scale", "orientation_override", "auto_scale_poses_override",
    "ply_file_path", "colmap_im_id", "colmap_image_id", "camera_id", "fisheye_crop_radius", "scene_box",
    "appearance_id", "original_file_path", "camera_label",
    # Blender's synthetic scenes
    "rotation",
    # notes
    "comment", "_comment", "description", "version", "date", "author", "license", "name", "scene", "source",
    "id", "image_id", "frame_id", "index", "timestamp", "blur_score",
}  # fmt: skip
# Keys that change what a picture shows, with what is done instead of honouring them.
UNHONOURED = {
    "time": "the scene is taken to stand still",
    "camera_time": "the scene is taken to stand still",
    "rolling_shutter": "each picture is taken to be exposed at once",
    "transform_matrix_start": "the camera is taken to stand still at `transform_matrix`",
    "transform_matrix_end": "the camera is taken to stand still at `transform_matrix`",
    "light_dir": "the light is taken to be the same in all pictures",
    "black_transparent": "black parts stay black; give pictures with transparency or on white",
    "is_hdr": "pictures are taken to be in sRGB",
    "linear_colors": "pictures are taken to be in sRGB",
    "exposure": "the exposure is taken to be the same in all pictures",
    "near": "data.object_radius says how large the working volume is",
    "far": "data.object_radius says how large the working volume is",
}
DISTORTION = re.compile(r"k\d+|p\d+|s\d+|b\d+|skew|shear|tau_?[xy]|ftheta_p\d+|distortion(_params|_coeffs)?")
LENSES = ("is_fisheye", "fisheye", "latlong", "equirectangular", "orthographic", "spherical", "panorama")
LENS_NAMES = (
    "camera_model",
    "lens",
    "lens_mode",
    "lens_model",
    "camera_type",
    "projection",
    "distortion_model",
)
AXES = ("from_mitsuba", "from_na")


def merge_keys(document: Mapping[str, Any], frame: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that hold for a frame: its own, which win, and those of the document.

    A frame's own focal length takes the place of the document's in whatever form that is given: along x it
    stands for both axes, unless the frame says another along y.
    """
    replaced: set[str] = set()
    if any(key in frame for key in FOCAL_X):
        replaced.update(FOCAL_X, FOCAL_Y)
    elif any(key in frame for key in FOCAL_Y):
        replaced.update(FOCAL_Y)
    return {key: value for key, value in document.items() if key not in replaced} | dict(frame)


def require_pinhole(keys: Mapping[str, Any], name: str) -> None:
    """Raise ValueError, beginning with `name`, if keys ask for what no pinhole with OpenGL axes does."""
    for key in LENS_NAMES:
        value = keys.get(key)
        accepted = PINHOLES if key == "camera_model" else (*PINHOLES, "PERSPECTIVE")
        if not _is_off(value) and not (isinstance(value, str) and value.upper() in accepted):
            raise ValueError(
                f"{name}: `{key}` is {value!r}, which is no pinhole ({', '.join(accepted)}); undistort first"
            )
    for key, value in keys.items():
        if key in LENSES and not _is_off(value):
            raise ValueError(f"{name}: `{key}` asks for a lens that is no pinhole; undistort first")
        if DISTORTION.fullmatch(key) and not _is_off(value):
            raise ValueError(
                f"{name}: lens distortion (`{key}` is {value!r}) is not supported; undistort first"
            )
        if key in AXES and not _is_off(value):
            raise ValueError(
                f"{name}: `{key}` asks for other axes than OpenGL's; convert the poses and remove the key"
            )


def key_notices(document: Mapping[str, Any]) -> list[str]:
    """What to say of the keys of a document and its frames that are not honoured, a line for each kind."""
    frames = [frame for frame in document.get("frames", ()) if isinstance(frame, dict)]
    present = {key for keys in (document, *frames) for key, value in keys.items() if not _is_off(value)}
    consequences: dict[str, list[str]] = {}
    for key, consequence in UNHONOURED.items():
        if key in present:
            consequences.setdefault(consequence, []).append(key)
    lines = [f"{_quoted(keys)} not honoured: {done}" for done, keys in consequences.items()]
    unknown = sorted(key for key in present if not _is_known(key))
    if unknown:
        lines.append(f"{_quoted(unknown)} not known; check that poses and pictures mean the same without")
    return lines


def _is_known(key: str) -> bool:
    listed = key in HONOURED or key in HARMLESS or key in UNHONOURED
    refused = key in LENSES or key in LENS_NAMES or key in AXES or DISTORTION.fullmatch(key) is not None
    return listed or refused


def _is_off(value: object) -> bool:
    """Whether a value switches nothing on: null, false, zero, empty, or a list of such."""
    return not value or (isinstance(value, list) and all(map(_is_off, value)))


def _quoted(keys: Sequence[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys) + (" is" if len(keys) == 1 else " are")
