"""Angles of photos without cameras, estimated where the command line asks for that."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scripts.sampling.arguments import AUTO, asks_for_estimates, orbit_angles

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from jaxtyping import UInt8
    from torch import Tensor

    from config.run import RunConfig
    from data.photos.framing import FramedPhoto
    from models.sampling.pose_from_photo import PoseEstimate

UNSURE_DEG = 45.0  # an azimuth that may be off by more is said to be unsure


def with_angles(
    config: "RunConfig", arguments: argparse.Namespace, framed: Sequence["FramedPhoto"]
) -> tuple[argparse.Namespace, list[str]]:
    """The command line with numbers in place of `AUTO`, and what was estimated, a line for each photo.

    `config.data` is the data set of the training. Raises ValueError where that cannot be used.
    """
    if arguments.camera or not arguments.image or not asks_for_estimates(arguments):
        return arguments, []
    from data.formats.registry import open_split
    from models.sampling.pose_from_photo import fit, read_examples

    try:
        objects = open_split(config.data, "train")
    except ValueError as error:
        raise ValueError(
            f"{error}; auto needs the data that the model was trained on: give --data, or angles in degrees"
        ) from error
    pictures = [_as_in_training(photo, arguments.fill) for photo in framed]
    estimates = fit(read_examples(objects)).estimate(pictures)
    azimuths, elevations = orbit_angles(arguments)
    notices = [
        _notice(str(path), estimate, azimuth=azimuth == AUTO, elevation=elevation == AUTO)
        for path, estimate, azimuth, elevation in zip(
            arguments.image, estimates, azimuths, elevations, strict=True
        )
        if AUTO in (azimuth, elevation)
    ]
    found = {
        "azimuth": [
            estimate.azimuth_deg if angle == AUTO else angle
            for angle, estimate in zip(azimuths, estimates, strict=True)
        ],
        "elevation": [
            estimate.elevation_deg if angle == AUTO else angle
            for angle, estimate in zip(elevations, estimates, strict=True)
        ],
    }
    return argparse.Namespace(**vars(arguments) | found), notices


def _as_in_training(photo: "FramedPhoto", fill: float | None) -> "UInt8[Tensor, 'k k 3']":
    """The framed photo with the object as large as in training views, whatever --fill says."""
    if fill is None or photo.notice is not None:  # a photo with a notice was taken whole
        return photo.picture
    from torch.nn.functional import pad

    from data.photos.framing import frame_picture

    margin = len(photo.picture)  # of white, by which framing knows the ground
    framed = frame_picture(pad(photo.picture, (0, 0, margin, margin, margin, margin), value=255))
    return photo.picture if framed is None else framed


def _notice(photo: str, estimate: "PoseEstimate", *, azimuth: bool, elevation: bool) -> str:
    """What was estimated of a photo, and how far off nine in ten such estimates are at most."""
    parts, unsure = [], azimuth and estimate.azimuth_error_deg > UNSURE_DEG
    if elevation:
        parts.append(f"elevation {estimate.elevation_deg:.0f} +- {estimate.elevation_error_deg:.0f} degrees")
    if azimuth:
        parts.append(f"azimuth {estimate.azimuth_deg:.0f} +- {estimate.azimuth_error_deg:.0f} degrees")
    advice = "; the azimuth is unsure: front and back may be confused, so compare the views" if unsure else ""
    return f"{photo}: estimated {', '.join(parts)} (for 9 in 10 training views like it){advice}"
