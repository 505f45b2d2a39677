"""Draw novel views of an object with a trained model: python sample_views.py --transfer RUN_OR_CHECKPOINT"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.drawing import draw, joint_sigma, settings
from scripts.photo_angles import with_angles
from scripts.sample_arguments import check_combinations, make_parser, orbit_angles, photo_boxes

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    import torch

    from config import RunConfig
    from data.batch import Views
    from data.photo_framing import FramedPhoto
    from data.selection import Job


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and sample; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        written = sample_views(arguments)
    except (ValueError, OSError) as error:
        return fail(2, str(error))
    except (RuntimeError, MemoryError) as error:
        from models.device import out_of_memory

        if not out_of_memory(error):
            raise
        return fail(
            2, f"{(str(error) or 'out of memory').splitlines()[0]}; lower --batch, --samples or --look-at"
        )
    except KeyboardInterrupt:
        return fail(130, "interrupted; the pictures written so far are complete")
    print(*written, sep="\n")
    return 0


def fail(code: int, message: str) -> int:
    """Say why the program leaves with an exit code."""
    print(f"sample_views.py: {message}", file=sys.stderr)
    return code


def sample_views(arguments: argparse.Namespace) -> list[Path]:
    """Sample what the command line asks for; returns the films and sheets that were written.

    Raises ValueError or OSError, in one line for the user, before anything is drawn wherever possible.
    """
    check_combinations(arguments)
    import torch

    from config.run_folder import load_model
    from data.images import write_png
    from models.device import autocast, choose_device, place
    from models.gallery import Gallery
    from scripts.progress import progress_bar

    device = choose_device(arguments.device)
    model, config, _ = load_model(arguments.transfer)
    config = with_choices(config, arguments)
    framed = frame_photos(arguments) if arguments.image and not arguments.camera else []
    arguments, estimates = with_angles(config, arguments, framed)
    jobs = photo_jobs(config, arguments, framed) if arguments.image else data_jobs(config, arguments)
    for notice in photo_notices(arguments, framed, jobs[0].source) + estimates:
        print(f"sample_views.py: {notice}", file=sys.stderr)
    style = {"prefix": arguments.prefix, "fps": arguments.fps, "num_samples": arguments.samples}
    folders = output_folders(config, arguments, jobs)
    galleries = [Gallery(folder, job.cameras[0], **style) for folder, job in zip(folders, jobs, strict=True)]
    for job, gallery in zip(jobs, galleries, strict=True):
        notice = gallery.open(settings(job, config, arguments, device))
        if notice:
            print(f"sample_views.py: {notice}", file=sys.stderr)
    for number, photo in enumerate(framed):
        write_png(galleries[0].path(f"photo_{number:02d}.png"), shown(photo))

    place(model, device)
    written: list[Path] = []
    total = sum(job.cameras.shape[1] for job in jobs) * (1 if arguments.joint is None else 2)
    there = sum(len(gallery.done) + len(gallery.drafted) for gallery in galleries)
    precision = autocast(config.train.precision, device)
    with progress_bar(total=total, initial=there, unit="view") as bar, torch.no_grad(), precision:
        for job, gallery in zip(jobs, galleries, strict=True):
            bar.set_description(job.name)
            draw(job, model, config, arguments, gallery, bar, device)
            written += gallery.close()
    return written


def with_choices(config: "RunConfig", arguments: argparse.Namespace) -> "RunConfig":
    """The run's config with what the command line changes. Raises ValueError where that makes no sense."""
    from config import validate_config
    from data.sets import at_root
    from diffusion.samplers import SAMPLERS, last_part

    document = config.model_dump(mode="json")
    if arguments.data is not None:
        document["data"] = at_root(config.data, arguments.data).model_dump(mode="json")
    options = document["sample"]
    for name in ("sampler", "steps", "guidance"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    if arguments.unconditional:
        options["unconditional"] = True
        options["guidance"] = 1.0 if arguments.guidance is None else arguments.guidance
    if arguments.stochastic:
        options["stochastic"] = True
        if arguments.sampler is None and SAMPLERS[options["sampler"]] == "none":
            options["sampler"] = "dpmpp_2m_sde"
    chosen = validate_config(document, "command line")
    if arguments.joint is not None:
        last_part(chosen.sample, joint_sigma(arguments))  # raises where there is no such noise level
    return chosen


def frame_photos(arguments: argparse.Namespace) -> list["FramedPhoto"]:
    """Photos without cameras, made to look like the pictures of the training data."""
    from data.photo_framing import FILL, frame_photo

    remover = None
    if arguments.cut_out:
        from data.cut_out import background_remover

        remover = background_remover()
    masks = arguments.mask or [None] * len(arguments.image)
    fill = FILL if arguments.fill is None else arguments.fill
    photos = zip(arguments.image, masks, photo_boxes(arguments), strict=True)
    return [frame_photo(photo, mask, fill=fill, box=box, remover=remover) for photo, mask, box in photos]


def shown(photo: "FramedPhoto") -> "torch.Tensor":
    """A photo after framing; on its left the photo before, if something was cut out of that."""
    from data.cut_out import beside

    return photo.picture if photo.original is None else beside(photo)


def photo_notices(arguments: argparse.Namespace, framed: list["FramedPhoto"], source: "Views") -> list[str]:
    """What the owner of photos, if there are any, should know of them, a line each."""
    from data.photo_framing import profile_notices
    from data.photos import camera_notices, placement_notices

    if arguments.camera:
        notices = profile_notices(arguments.image) + camera_notices(arguments.camera)
        return notices + placement_notices(arguments.image, source)
    return [photo.notice for photo in framed if photo.notice is not None]


def photo_jobs(
    config: "RunConfig", arguments: argparse.Namespace, framed: list["FramedPhoto"]
) -> list["Job"]:
    """The one object of which the user has photos."""
    from data.selection import Job
    from data.trajectories import trajectory

    source, path = photo_views(config, arguments, framed), arguments.trajectory
    radius = config.data.object_radius
    cameras = trajectory(path, source.cameras[0, 0], arguments.views, object_radius=radius)[None]
    return [Job(arguments.image[0].stem, source, cameras)]


def photo_views(config: "RunConfig", arguments: argparse.Namespace, framed: list["FramedPhoto"]) -> "Views":
    """The user's photos: with their cameras, or framed."""
    from data.photos import framed_views, orbit_cameras, read_photos

    radius = config.data.object_radius
    options = {"image_size": config.data.image_size, "resampling": config.data.resampling}
    if arguments.camera:
        files = (arguments.image, arguments.camera, arguments.intrinsics)
        return read_photos(*files, object_radius=radius, **options)
    angles = orbit_angles(arguments)
    given = {name: getattr(arguments, name) for name in ("distance", "focal")}
    given = {name: value for name, value in given.items() if value is not None}
    return framed_views(framed, orbit_cameras(*angles, object_radius=radius, **given), **options)


def data_jobs(
    config: "RunConfig", arguments: argparse.Namespace, *, program: str = "sample_views.py"
) -> list["Job"]:
    """Objects of a data set; what the user should know of it is said in the name of the `program`."""
    from data.selection import choose_objects, data_job, parse_views
    from data.sets import open_split
    from scripts.warn import tell

    views = parse_views(arguments.cond_views) if arguments.cond_views else None
    objects = open_split(config.data, arguments.split)
    tell(objects.notices, program)
    path, radius = arguments.trajectory, config.data.object_radius
    return [
        data_job(objects, index, views=views, path=path, num=arguments.views, object_radius=radius)
        for index in choose_objects(objects, num=arguments.n or 1, names=arguments.object)
    ]


def output_folders(config: "RunConfig", arguments: argparse.Namespace, jobs: list["Job"]) -> list[Path]:
    """Where the files of each object belong."""
    if arguments.output is not None and len(jobs) == 1:
        return [arguments.output]
    parent = Path("samples") / config.name if arguments.output is None else arguments.output
    return [parent / job.name for job in jobs]


if __name__ == "__main__":
    sys.exit(main())
