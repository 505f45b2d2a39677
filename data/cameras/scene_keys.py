"""Keys of `transforms.json` files: supported, irrelevant or rejected; unknown keys are reported.

The format has no standard. The keys are those of nerfstudio, instant-ngp (and its colmap2nerf) and the
Blender synthetic scenes. A key that is null, false, zero or empty counts as missing if it would be rejected
or reported.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data.splits import Split

# The first key present is used. A frame's own focal length overrides the document's.
FOCAL_X = ("fl_x", "camera_angle_x", "x_fov")
FOCAL_Y = ("fl_y", "camera_angle_y", "y_fov")
SPLIT_LISTS: dict[str, Split] = {
    "train_filenames": "train",
    "val_filenames": "val",
    "test_filenames": "test",
}
PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE")  # equivalent without distortion
HONOURED = {
    *FOCAL_X, *FOCAL_Y, *SPLIT_LISTS, "w", "h", "cx", "cy", "camera_model",
    "frames", "file_path", "transform_matrix", "mask_path", "up",
}  # fmt: skip
# Settings of other programs, files that are not read, or provenance.
HARMLESS = {
    # instant-ngp
    "aabb", "aabb_scale", "render_aabb", "render_aabb_to_local", "scale", "offset", "sharpness", "n_frames",
    "sharpness_discard_threshold", "n_extra_learnable_dims", "wants_importance_sampling", "white_transparent",
    "fix_premult", "enable_ray_loading", "envmap", "frame_rate", "video_path",
    # depth, normals and semantics, which are not read
    "depth_path", "depth_file_path", "depth_unit_scale_factor", "enable_depth_loading", "integer_depth_scale",
    "depth_mask_path", "normal_file_path", "semantics_path", "segmentation_path",
    # nerfstudio: transforms of the poses, already applied or to be applied there
    "applied_transform", "applied_scale", "orientation_override", "auto_scale_poses_override",
    "ply_file_path", "colmap_im_id", "colmap_image_id", "camera_id", "fisheye_crop_radius", "scene_box",
    "appearance_id", "original_file_path", "camera_label",
    # Blender's synthetic scenes
    "rotation",
    # notes
    "comment", "_comment", "description", "version", "date", "author", "license", "name", "scene", "source",
    "id", "image_id", "frame_id", "index", "timestamp", "blur_score",
}  # fmt: skip
# Keys that would change the images, and what is assumed instead.
UNHONOURED = {
    "time": "the scene is assumed static",
    "camera_time": "the scene is assumed static",
    "rolling_shutter": "a global shutter is assumed",
    "transform_matrix_start": "the camera is assumed to stay at `transform_matrix`",
    "transform_matrix_end": "the camera is assumed to stay at `transform_matrix`",
    "light_dir": "the lighting is assumed constant",
    "black_transparent": "black stays black; use images with transparency or on white",
    "is_hdr": "images are assumed to be sRGB",
    "linear_colors": "images are assumed to be sRGB",
    "exposure": "the exposure is assumed constant",
    "near": "data.object_radius sets the working volume",
    "far": "data.object_radius sets the working volume",
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
    """Merge the keys of a frame with those of the document; the frame's take precedence.

    A frame's own focal length replaces the document's in any form: given along x it holds for both axes,
    unless the frame also gives one along y.
    """
    replaced: set[str] = set()
    if any(key in frame for key in FOCAL_X):
        replaced.update(FOCAL_X, FOCAL_Y)
    elif any(key in frame for key in FOCAL_Y):
        replaced.update(FOCAL_Y)
    return {key: value for key, value in document.items() if key not in replaced} | dict(frame)


def require_pinhole(keys: Mapping[str, Any], name: str) -> None:
    """Raise ValueError, starting with `name`, if keys describe anything but a pinhole with OpenGL axes."""
    for key in LENS_NAMES:
        value = keys.get(key)
        accepted = PINHOLES if key == "camera_model" else (*PINHOLES, "PERSPECTIVE")
        if not _is_off(value) and not (isinstance(value, str) and value.upper() in accepted):
            raise ValueError(
                f"{name}: `{key}` is {value!r}, which is not a pinhole ({', '.join(accepted)}); "
                "undistort first"
            )
    for key, value in keys.items():
        if key in LENSES and not _is_off(value):
            raise ValueError(f"{name}: `{key}` describes a lens that is not a pinhole; undistort first")
        if DISTORTION.fullmatch(key) and not _is_off(value):
            raise ValueError(
                f"{name}: lens distortion (`{key}` is {value!r}) is not supported; undistort first"
            )
        if key in AXES and not _is_off(value):
            raise ValueError(
                f"{name}: `{key}` specifies axes other than OpenGL's; convert the poses and remove the key"
            )


def key_notices(document: Mapping[str, Any]) -> list[str]:
    """Return a notice for each kind of unsupported key in a document and its frames."""
    frames = [frame for frame in document.get("frames", ()) if isinstance(frame, dict)]
    present = {key for keys in (document, *frames) for key, value in keys.items() if not _is_off(value)}
    consequences: dict[str, list[str]] = {}
    for key, consequence in UNHONOURED.items():
        if key in present:
            consequences.setdefault(consequence, []).append(key)
    lines = [f"{_quoted(keys)} not supported: {done}" for done, keys in consequences.items()]
    unknown = sorted(key for key in present if not _is_known(key))
    if unknown:
        lines.append(f"{_quoted(unknown)} unknown; check that poses and images are valid without")
    return lines


def _is_known(key: str) -> bool:
    listed = key in HONOURED or key in HARMLESS or key in UNHONOURED
    refused = key in LENSES or key in LENS_NAMES or key in AXES or DISTORTION.fullmatch(key) is not None
    return listed or refused


def _is_off(value: object) -> bool:
    """Whether a value is null, false, zero, empty, or a list of such."""
    return not value or (isinstance(value, list) and all(map(_is_off, value)))


def _quoted(keys: Sequence[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys) + (" is" if len(keys) == 1 else " are")
