"""Estimate the camera angles of photos on request."""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import pad

from config.run import RunConfig
from data.formats.registry import open_split
from data.photos.framing import FramedPhoto, frame_picture
from models.sampling.pose_from_photo import PoseEstimate, fit, read_examples
from scripts.sampling.request import AUTO, PhotoRequest

UNSURE_DEG = 45.0  # an azimuth with a larger error is reported as uncertain


def with_angles(
    config: RunConfig, photos: PhotoRequest, framed: Sequence[FramedPhoto]
) -> tuple[PhotoRequest, list[str]]:
    """Replace `AUTO` angles of a request by estimates; also returns a notice for each photo.

    `config.data` must be the training data. Raises ValueError if it cannot be read.
    """
    if photos.cameras or not photos.wants_estimates:
        return photos, []
    try:
        objects = open_split(config.data, "train")
    except ValueError as error:
        raise ValueError(
            f"{error}; auto needs the data that the model was trained on: give --data, or angles in degrees"
        ) from error
    pictures = [_as_in_training(photo, photos.fill) for photo in framed]
    estimates = fit(read_examples(objects)).estimate(pictures)
    azimuths, elevations = photos.orbit_angles()
    each = list(zip(estimates, azimuths, elevations, strict=True))
    notices = [
        _notice(str(path), estimate, azimuth=azimuth == AUTO, elevation=elevation == AUTO)
        for path, (estimate, azimuth, elevation) in zip(photos.images, each, strict=True)
        if AUTO in (azimuth, elevation)
    ]
    found = replace(
        photos,
        azimuths_deg=tuple(estimate.azimuth_deg if angle == AUTO else angle for estimate, angle, _ in each),
        elevations_deg=tuple(
            estimate.elevation_deg if angle == AUTO else angle for estimate, _, angle in each
        ),
    )
    return found, notices


def _as_in_training(photo: FramedPhoto, fill: float | None) -> UInt8[Tensor, "k k 3"]:
    """The framed photo with the object as large as in training views, regardless of --fill."""
    if fill is None or photo.whole:
        return photo.picture
    margin = len(photo.picture)  # of white, from which framing detects the background
    framed = frame_picture(pad(photo.picture, (0, 0, margin, margin, margin, margin), value=255))
    return photo.picture if framed is None else framed


def _notice(photo: str, estimate: PoseEstimate, *, azimuth: bool, elevation: bool) -> str:
    """Report an estimate with the error that nine in ten such estimates do not exceed."""
    parts, unsure = [], azimuth and estimate.azimuth_error_deg > UNSURE_DEG
    if elevation:
        parts.append(f"elevation {estimate.elevation_deg:.0f} +- {estimate.elevation_error_deg:.0f} degrees")
    if azimuth:
        parts.append(f"azimuth {estimate.azimuth_deg:.0f} +- {estimate.azimuth_error_deg:.0f} degrees")
    warning = "; the azimuth is uncertain: front and back may be confused, so compare the views"
    estimated = f"{photo}: estimated {', '.join(parts)} (for 9 in 10 training views like it)"
    return estimated + warning if unsure else estimated
