"""Write what a model knows of an object's shape as files: python -m scripts.export_geometry RUN"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.export_geometry.arguments import check, make_parser
from scripts.sampling.photo_angles import with_angles

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    import torch
    from jaxtyping import UInt8
    from numpy import ndarray

    from config.run import RunConfig
    from data.scenes.batch import Views
    from data.scenes.views import Job
    from models.volumes.volume_model import VolumeModel
    from scripts.export_geometry.surfaces import PointCloud, Surface
    from scripts.export_geometry.truth import Truth

MESH, CLOUD = "mesh.glb", "cloud.ply"


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and export; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        failed = export_geometry(arguments)
    except (ValueError, OSError) as error:
        print(f"export_geometry: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        from models.device import out_of_memory

        if not out_of_memory(error):
            raise
        print("export_geometry: out of memory; lower --resolution or give fewer views", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("export_geometry: interrupted; the files that are there are whole", file=sys.stderr)
        return 130
    return 2 if failed else 0


def export_geometry(arguments: argparse.Namespace) -> bool:
    """Write what the command line asks for, and tell which files and figures there are.

    Of an object that fails, a line says why, and the others are exported; returns whether there is any.
    Whatever ends the work, what is known by then is written. Raises ValueError or OSError, in one line for
    the user, before the first object wherever possible.
    """
    check(arguments)
    from data.files import require_writable
    from models.checkpoints.loading import load_model
    from models.device import choose_device, place
    from models.volumes.volume_model import volumes_of
    from scripts.common.progress import progress_bar
    from scripts.export_geometry.picture import write_picture
    from scripts.export_geometry.truth import Truth

    device = choose_device(arguments.device)
    model, config, _ = load_model(arguments.transfer)
    model = place(volumes_of(model, arguments.transfer), device)
    config, jobs = chosen(config, arguments)
    truth = Truth.of(config.data, arguments, [job.name for job in jobs]) if arguments.truth else None
    places = folders(config, arguments, jobs)
    written = [folder / name for folder in places for name in (MESH, CLOUD)]
    for path in [*written, *filter(None, (arguments.figures, arguments.picture))]:
        require_writable(path)

    lines, problems, blocks = [], [], []
    try:
        with progress_bar(jobs, unit="object") as bar:
            for job, folder in zip(bar, places, strict=True):
                try:
                    export(model, config, arguments, job, folder, truth, blocks, device)
                    lines += [f"{folder / name}" for name in (MESH, CLOUD)]
                except ValueError as error:
                    if isinstance(error.__cause__, ImportError):  # no other object fares better
                        raise
                    problems.append(f"export_geometry: {job.name}: {error}")
    finally:
        print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
        print(*lines, sep="\n", end="\n" if lines else "")
        if blocks:
            print(write_picture(arguments.picture, blocks))
        if truth and truth.figures:
            print(*truth.report(arguments.figures), sep="\n")
    return bool(problems)


def chosen(config: "RunConfig", arguments: argparse.Namespace) -> "tuple[RunConfig, list[Job]]":
    """The objects that the command line names, and the config with the data set that it names."""
    from data.formats.registry import at_root
    from sample_views import data_jobs, frame_photos, photo_jobs, photo_notices

    if arguments.data is not None:
        config = config.model_copy(update={"data": at_root(config.data, arguments.data)})
    # Jobs have cameras of views to draw; here they are not looked at.
    given = argparse.Namespace(**vars(arguments) | {"trajectory": "circle", "views": 1})
    if not arguments.image:
        return config, data_jobs(config, given, program="export_geometry")
    framed = [] if arguments.camera else frame_photos(given)
    given, estimates = with_angles(config, given, framed)
    jobs = photo_jobs(config, given, framed)
    for notice in photo_notices(arguments, framed, jobs[0].source) + estimates:
        print(f"export_geometry: {notice}", file=sys.stderr)
    return config, jobs


def folders(config: "RunConfig", arguments: argparse.Namespace, jobs: "list[Job]") -> list[Path]:
    """Where the files of each object belong, as those of sample_views.py do."""
    from sample_views import output_folders

    return output_folders(config, arguments, jobs)


def with_film(job: "Job", config: "RunConfig", folder: Path | None) -> "Views":
    """The source views, and behind them those of a film that was drawn of the object.

    Raises ValueError where there is none, or it shows another object, or its pictures are of another size.
    """
    import torch

    from data.cameras.pinhole import cameras_from_poses
    from data.images.files import read_picture
    from data.images.pixels import from_uint8
    from data.scenes.batch import all_valid, concatenate
    from scripts.sampling.reader import films_in, record_of

    source = job.source
    if folder is None:
        return source
    films = films_in(folder)
    if len(films) > 1:
        raise ValueError(f"{folder}: holds {len(films)} films; give the folder of one")
    shown = record_of(films[0].folder).get("object", job.name)  # who moved it may have left the record
    if shown != job.name:
        raise ValueError(f"{folder}: shows {shown}; give a film of {job.name}, or --object {shown}")
    pictures = [from_uint8(read_picture(path)) for path in films[0].pictures]
    if any(picture.shape != source.images.shape[2:] for picture in pictures):
        raise ValueError(f"{folder}: its pictures are of another size than the source's; draw them anew")
    poses, intrinsics = films[0].cameras.cam_to_world, films[0].cameras.intrinsics
    cameras = cameras_from_poses(poses, intrinsics, object_radius=config.data.object_radius)
    return concatenate([source, all_valid(torch.stack(pictures)[None], cameras[None])], axis=1)


def export(
    model: "VolumeModel",
    config: "RunConfig",
    arguments: argparse.Namespace,
    job: "Job",
    folder: Path,
    truth: "Truth | None",
    blocks: "list[UInt8[ndarray, 'h w 3']]",
    device: "torch.device",
) -> None:
    """Write the files of one object; its figures go to `truth`, and its part of the picture to `blocks`.

    Raises ValueError where there is nothing solid, or a file cannot be used.
    """
    from scripts.export_geometry.picture import drawn
    from scripts.export_geometry.surfaces import write_glb, write_ply

    true_mesh = truth.mesh(job.name) if truth else None
    source = with_film(job, config, arguments.film)
    surface, cloud = extract(model, config, arguments, job, source, device)
    write_glb(folder / MESH, surface)
    write_ply(folder / CLOUD, cloud)
    if truth:
        truth.measure(job.name, true_mesh, source, surface, cloud)
    if arguments.picture:
        blocks.append(drawn(job.source, true_mesh, surface, cloud))


def extract(
    model: "VolumeModel",
    config: "RunConfig",
    arguments: argparse.Namespace,
    job: "Job",
    source: "Views",
    device: "torch.device",
) -> "tuple[Surface, PointCloud]":
    """Mesh and cloud of one object. Raises ValueError where there is nothing solid."""
    import numpy as np
    import torch

    from data.cameras.poses import cameras_all_round
    from data.scenes.batch import concatenate
    from models.device import autocast
    from scripts.export_geometry.extraction import SurfaceOptions, depth_cloud, extract_surface
    from scripts.export_geometry.surfaces import points_on

    options = SurfaceOptions(
        arguments.surface, arguments.level, arguments.resolution, arguments.largest, arguments.smooth
    )
    with torch.no_grad():
        with autocast(config.train.precision, device):
            scene = model.encode(source.to(device))
        photographed = job.source.cameras.to(device)
        around = cameras_all_round(photographed[0, 0], arguments.cameras)
        cameras = concatenate([photographed, around], axis=1)
        cloud = depth_cloud(model, scene, cameras, least_opacity=arguments.opacity)
        surface = extract_surface(model, scene, cloud, options)
    if arguments.cloud == "mesh":
        cloud = points_on(surface, arguments.points, np.random.default_rng(0))
    return surface, cloud


if __name__ == "__main__":
    sys.exit(main())
