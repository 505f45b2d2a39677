"""Write what a model knows of an object's shape as files: python -m scripts.export_geometry RUN"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.geometry.arguments import check, make_parser

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    import torch

    from config import RunConfig
    from data.batch import Views
    from data.selection import Job
    from data.surfaces import PointCloud, Surface
    from models.volumes import VolumeModel


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and export; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        print(*export_geometry(arguments), sep="\n")
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
    return 0


def export_geometry(arguments: argparse.Namespace) -> list[str]:
    """Write what the command line asks for; returns what to tell: the files, and the table of figures.

    Raises ValueError or OSError, in one line for the user.
    """
    check(arguments)
    from config.run_folder import load_model
    from data.surfaces import write_glb, write_ply
    from models.device import choose_device, place
    from models.geometry import volumes_of
    from scripts.geometry.picture import Shown, write_picture
    from scripts.geometry.truth import Truth
    from scripts.progress import progress_bar

    device = choose_device(arguments.device)
    model, config, _ = load_model(arguments.transfer)
    model = place(volumes_of(model), device)
    config, jobs = chosen(config, arguments)
    truth = Truth.of(config.data, arguments) if arguments.truth else None
    lines, shown = [], []
    with progress_bar(jobs, unit="object") as bar:
        for job, folder in zip(bar, folders(config, arguments, jobs), strict=True):
            source = with_film(job.source, config, arguments.film)
            true_mesh = truth.mesh(job.name) if truth else None
            surface, cloud = extract(model, config, arguments, job, source, device)
            for path, write, part in (
                (folder / "mesh.glb", write_glb, surface),
                (folder / "cloud.ply", write_ply, cloud),
            ):
                write(path, part)
                lines.append(f"{path}")
            if truth:
                truth.measure(job.name, true_mesh, source, surface, cloud)
            if arguments.picture:
                shown.append(Shown(job.source, true_mesh, surface, cloud))
    if arguments.picture:
        lines.append(write_picture(arguments.picture, shown))
    if truth:
        lines += truth.report(arguments.figures)
    return lines


def chosen(config: "RunConfig", arguments: argparse.Namespace) -> "tuple[RunConfig, list[Job]]":
    """The objects that the command line names, and the config with the data set that it names."""
    from data.sets import at_root
    from sample_views import data_jobs, frame_photos, photo_jobs

    if arguments.data is not None:
        config = config.model_copy(update={"data": at_root(config.data, arguments.data)})
    # Jobs have cameras of views to draw; here they are not looked at.
    given = argparse.Namespace(**vars(arguments) | {"trajectory": "circle", "views": 1})
    if not arguments.image:
        return config, data_jobs(config, given)
    framed = [] if arguments.camera else frame_photos(given)
    for photo in framed:
        if photo.notice is not None:
            print(f"export_geometry: {photo.notice}", file=sys.stderr)
    return config, photo_jobs(config, given, framed)


def folders(config: "RunConfig", arguments: argparse.Namespace, jobs: "list[Job]") -> list[Path]:
    """Where the files of each object belong, as those of sample_views.py do."""
    from sample_views import output_folders

    return output_folders(config, arguments, jobs)


def with_film(source: "Views", config: "RunConfig", folder: Path | None) -> "Views":
    """The source views, and behind them those of a film that was drawn of the object.

    Raises ValueError where there is none, or its pictures are of another size.
    """
    import torch

    from data.batch import all_valid, concatenate
    from data.cameras import cameras_from_poses
    from data.images import from_uint8, read_picture
    from models.generated import films_in

    if folder is None:
        return source
    films = films_in(folder)
    if len(films) > 1:
        raise ValueError(f"{folder}: holds {len(films)} films; give the folder of one")
    pictures = [from_uint8(read_picture(path)) for path in films[0].pictures]
    if any(picture.shape != source.images.shape[2:] for picture in pictures):
        raise ValueError(f"{folder}: its pictures are of another size than the source's; draw them anew")
    poses, intrinsics = films[0].cameras.cam_to_world, films[0].cameras.intrinsics
    cameras = cameras_from_poses(poses, intrinsics, object_radius=config.data.object_radius)
    return concatenate([source, all_valid(torch.stack(pictures)[None], cameras[None])], axis=1)


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

    from data.batch import concatenate
    from data.directions import cameras_all_round
    from data.surfaces import points_on
    from models.device import autocast
    from models.geometry import SurfaceOptions, depth_cloud, extract_surface

    options = SurfaceOptions(
        arguments.surface, arguments.level, arguments.resolution, arguments.largest, arguments.smooth
    )
    with torch.no_grad():
        with autocast(config.train.precision, device):
            scene = model.encode(source.to(device))
        try:
            photographed = job.source.cameras.to(device)
            around = cameras_all_round(photographed[0, 0], arguments.cameras)
            cameras = concatenate([photographed, around], axis=1)
            cloud = depth_cloud(model, scene, cameras, least_opacity=arguments.opacity)
            surface = extract_surface(model, scene, cloud, options)
        except ValueError as error:
            raise ValueError(f"{job.name}: {error}") from error
    if arguments.cloud == "mesh":
        cloud = points_on(surface, arguments.points, np.random.default_rng(0))
    return surface, cloud


if __name__ == "__main__":
    sys.exit(main())
