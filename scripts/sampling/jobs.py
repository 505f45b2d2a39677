"""What is sampled: source views and target cameras of each object, from photos or a data set."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.sampling.arguments import orbit_angles, photo_boxes

if TYPE_CHECKING:
    from config.run import RunConfig
    from data.photos.framing import FramedPhoto
    from data.scenes.batch import Views
    from data.scenes.views import Job


def with_choices(config: "RunConfig", arguments: argparse.Namespace) -> "RunConfig":
    """The run's config with what the command line changes. Raises ValueError where that makes no sense."""
    from config.run import validate_config
    from data.formats.registry import at_root
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
    from data.photos.framing import FILL, frame_photo

    remover = None
    if arguments.cut_out:
        from data.photos.cut_out import background_remover

        remover = background_remover()
    masks = arguments.mask or [None] * len(arguments.image)
    fill = FILL if arguments.fill is None else arguments.fill
    photos = zip(arguments.image, masks, photo_boxes(arguments), strict=True)
    return [frame_photo(photo, mask, fill=fill, box=box, remover=remover) for photo, mask, box in photos]


def photo_notices(arguments: argparse.Namespace, framed: list["FramedPhoto"], source: "Views") -> list[str]:
    """What the owner of photos, if there are any, should know of them, a line each."""
    from data.photos.framing import profile_notices
    from data.photos.photos import camera_notices, placement_notices

    if arguments.camera:
        notices = profile_notices(arguments.image) + camera_notices(arguments.camera)
        return notices + placement_notices(arguments.image, source)
    return [photo.notice for photo in framed if photo.notice is not None]


def photo_jobs(
    config: "RunConfig", arguments: argparse.Namespace, framed: list["FramedPhoto"]
) -> list["Job"]:
    """The one object of which the user has photos."""
    from data.cameras.trajectories import trajectory
    from data.scenes.views import Job

    source, path = photo_views(config, arguments, framed), arguments.trajectory
    radius = config.data.object_radius
    cameras = trajectory(path, source.cameras[0, 0], arguments.views, object_radius=radius)[None]
    return [Job(arguments.image[0].stem, source, cameras)]


def photo_views(config: "RunConfig", arguments: argparse.Namespace, framed: list["FramedPhoto"]) -> "Views":
    """The user's photos: with their cameras, or framed."""
    from data.photos.photos import framed_views, orbit_cameras, read_photos

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
    from data.formats.registry import open_split
    from data.scenes.views import choose_objects, data_job, parse_views
    from scripts.training.messages import tell

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


def joint_sigma(arguments: argparse.Namespace) -> float:
    """The noise level from which views are denoised once more."""
    from models.sampling.autoregressive import JOINT_SIGMA

    return JOINT_SIGMA if arguments.joint_sigma is None else arguments.joint_sigma
