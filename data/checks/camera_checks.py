"""Check the poses and intrinsics of one object: rigid, aimed at the object, upright, consistent."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from data.cameras.pinhole import require_rigid
from data.checks.findings import Finding
from data.checks.object_record import Subject
from data.formats.nmr.cameras import require_even_turn, view_angles

SAME = 1e-4  # poses that differ by less are equal; scene units and components of unit axes
OFF_CENTRE, FAR_OFF_CENTRE = 0.05, 0.25  # distance from the image centre, as a fraction of width or height
OFF_AIM = 0.15  # distance of the projected world origin from the image centre, likewise
ROLL = 0.05  # z component of a camera's right axis
SQUARE = 0.02  # relative difference of pixel width and height
TURN_VIEWS = 24  # views of NMR's ShapeNet, on one circle
ON_CIRCLE = 0.8  # fraction of views that must share elevation and distance
DEVIATION = 0.1  # relative deviation from the object's median distance and focal length


def check_rigid(subject: Subject) -> Iterator[Finding]:
    """Find poses that are not rigid."""
    rotations = np.nan_to_num(subject.poses[:, :3, :3].astype(np.float64))
    products = rotations @ rotations.transpose(0, 2, 1)
    suspect = (np.abs(products - np.eye(3)).max(axis=(1, 2)) > 1e-4) | (np.linalg.det(rotations) < 0)
    suspect |= np.abs(subject.poses[:, 3] - [0, 0, 0, 1]).max(axis=1) > 1e-4
    suspect |= ~subject.positions.any(axis=1) | ~np.isfinite(subject.poses).all(axis=(1, 2))
    read = ~np.isnan(subject.poses).all(axis=(1, 2))  # missing poses were reported already
    # Only those need the slow check that names the problem.
    for index in np.flatnonzero(suspect & read):
        try:
            require_rigid(torch.from_numpy(subject.poses[index].copy()), subject.pose_files[index])
        except ValueError as error:
            yield subject.about_view("pose", "error", int(index), str(error), pose=True)


def check_places(subject: Subject) -> Iterator[Finding]:
    """Find cameras that are all in one place, and repeated poses."""
    known = np.flatnonzero(subject.has_camera)
    if len(known) < 2:
        return
    positions = subject.positions[known]
    if np.ptp(positions, axis=0).max() < SAME:
        hint = " (world-to-camera instead of camera-to-world?)" if _turns(subject.poses[known]) else ""
        message = f"all {len(known)} cameras are in one place{hint}; restore the poses"
        yield subject.about("same poses", "error", message)
        return
    first: dict[bytes, int] = {}
    for index, pose in zip(known.tolist(), np.round(subject.poses[known] / SAME), strict=True):
        earlier = first.setdefault((pose + 0.0).tobytes(), index)  # -0 is 0
        if earlier != index:
            message = f"has the pose of view {subject.views[earlier]}; one of the two is wrong or redundant"
            yield subject.about_view("repeated pose", "warning", index, message, pose=True)


def check_aim(subject: Subject) -> Iterator[Finding]:
    """Find cameras whose optical axis misses the world origin, where the object must be."""
    for index in np.flatnonzero(subject.has_camera).tolist():
        pose, matrix = subject.poses[index], subject.intrinsics[index]
        origin = -pose[:3, :3].T @ pose[:3, 3]
        if origin[2] <= 0:
            message = "looks away from the world origin, where the object must be (OpenGL axes?)"
            yield subject.about_view("aim", "error", index, f"{message}; correct the pose", pose=True)
            continue
        off = matrix[:2] @ (origin / origin[2]) - matrix[:2, 2]
        if (share := float(np.abs(off).max())) > OFF_AIM:
            message = f"misses the world origin by {share:.2f} of the image size; centre the object there"
            yield subject.about_view("aim", "error" if share > 0.5 else "warning", index, message, pose=True)


def check_upright(subject: Subject) -> Iterator[Finding]:
    """Find cameras that are rolled, upside down, or upright along an axis other than z."""
    known = np.flatnonzero(subject.has_camera)
    if len(known) < 3:
        return
    tilt = np.abs(subject.poses[known, :3, 0])  # of the right axis against x, y and z
    rolled = tilt[:, 2] > ROLL
    if rolled.mean() > 0.5:
        straight = [axis for axis, worst in zip("xy", tilt.max(0), strict=False) if worst < ROLL]
        if straight:
            message = f"is upright along {straight[0]}, not z; rotate the world so that z is up"
            yield subject.about("upright", "warning", message)
        else:
            yield subject.about("upright", "note", "its cameras are rolled, as hand-held ones are")
        return
    for index in known[rolled].tolist():
        message = "is rolled, unlike the object's other cameras; correct the pose"
        yield subject.about_view("upright", "warning", index, message, pose=True)
    for index in known[~rolled & (subject.poses[known, 2, 1] > ROLL)].tolist():
        message = "is upside down: the world's z axis points down in its image; correct the pose"
        yield subject.about_view("upright", "warning", index, message, pose=True)


def check_placement(subject: Subject) -> Iterator[Finding]:
    """Find views off the evenly spaced circle of a set like NMR's ShapeNet; random views are not checked."""
    if len(subject.views) != TURN_VIEWS or subject.stored != TURN_VIEWS or not subject.has_camera.all():
        return
    poses = torch.from_numpy(subject.poses)
    angles = view_angles(poses)
    on_circle = (angles.elevation_deg - angles.elevation_deg.median()).abs() < 0.5
    on_circle &= (angles.distance / angles.distance.median() - 1).abs() < 0.01
    if on_circle.float().mean() < ON_CIRCLE:
        return
    try:
        require_even_turn(poses, subject.place)
    except ValueError as error:
        yield subject.about("placement", "warning", str(error))


def check_intrinsics(subject: Subject) -> Iterator[Finding]:
    """Find principal points far from the centre, non-square pixels and outlier focal lengths."""
    known = np.flatnonzero(subject.has_camera)
    for index in known.tolist():
        matrix = subject.intrinsics[index]
        off = float(np.abs(matrix[:2, 2] - 0.5).max())
        if off > OFF_CENTRE:
            message = (
                f"the principal point is at {matrix[0, 2]:.2f}, {matrix[1, 2]:.2f} of the image instead of "
                "its centre; are the intrinsics for another image size?"
            )
            severity = "error" if off > FAR_OFF_CENTRE else "warning"
            yield subject.about_view("principal point", severity, index, message)
    for index, picture in subject.seen():
        if subject.has_camera[index]:
            height, width = picture.size
            matrix = subject.intrinsics[index]
            aspect = matrix[0, 0] * width / (matrix[1, 1] * height)
            if abs(aspect - 1) > SQUARE:
                message = f"the focal lengths of both axes make pixels {aspect:.2f} times as wide as high"
                yield subject.about_view(
                    "pixel shape", "warning", index, f"{message}; correct the intrinsics or the picture"
                )
    yield from _unlike_median(subject, "focal length", subject.intrinsics[:, 0, 0])
    # Hand-held cameras vary in distance; on a sphere, an outlier is wrong.
    distance = np.linalg.norm(subject.positions, axis=1)
    if len(known) and np.mean(_deviation(distance[known]) < 0.01) > 0.8:
        yield from _unlike_median(subject, "distance", distance)


def check_volume(subject: Subject, radius: float, source: str) -> Iterator[Finding]:
    """Report an object whose radius (from `source`) exceeds the working volume."""
    limit = subject.object_radius or float(np.median(seen_radii(subject)))
    if radius > 1.05 * limit:
        message = (
            f"reaches {radius:.3f} scene units from the origin by its {source}, but the working volume ends "
            f"at {limit:.3f}; near and far cut it: raise data.object_radius"
        )
        yield subject.about("cut by near or far", "warning", message)


def seen_radii(subject: Subject) -> Float[ndarray, "n"]:
    """Return, for each usable camera, the radius of the largest fully visible sphere around the origin."""
    known = subject.has_camera
    focal = subject.intrinsics[known][:, [0, 1], [0, 1]].max(axis=1)
    return np.linalg.norm(subject.positions[known], axis=1) * np.sin(np.arctan(0.5 / focal))


def _unlike_median(subject: Subject, check: str, values: Float[ndarray, "v"]) -> Iterator[Finding]:
    known = np.flatnonzero(subject.has_camera)
    if not len(known):
        return
    middle = float(np.median(values[known]))
    for index in known[_deviation(values[known]) > DEVIATION].tolist():
        message = f"{check} {values[index]:.3f} instead of {middle:.3f} as in the other views; correct it"
        yield subject.about_view(check, "warning", index, message, pose=check == "distance")


def _deviation(values: Float[ndarray, "n"]) -> Float[ndarray, "n"]:
    middle = np.median(values)
    return np.abs(values / middle - 1)


def _turns(poses: Float[ndarray, "n 4 4"]) -> bool:
    """Whether the cameras look in different directions."""
    return bool(np.ptp(poses[:, :3, :3], axis=0).max() > 0.01)
