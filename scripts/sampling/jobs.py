"""Sampling jobs: source views and target cameras of each object, from photos or a data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config.run import RunConfig, validate_config
from data.cameras.trajectories import trajectory
from data.formats.registry import at_root, open_split
from data.photos.cut_out import background_remover
from data.photos.framing import FILL, FramedPhoto, frame_photo, profile_notices
from data.photos.photos import camera_notices, framed_views, orbit_cameras, placement_notices, read_photos
from data.scenes.batch import Views
from data.scenes.views import Job, choose_objects, data_job
from diffusion.samplers import SAMPLERS, last_part
from models.sampling.autoregressive import JOINT_SIGMA
from scripts.sampling.photo_angles import with_angles
from scripts.sampling.request import PhotoRequest, SampleRequest, SubjectRequest


def with_choices(config: RunConfig, request: SampleRequest) -> RunConfig:
    """The run's config with the overrides of a request. Raises ValueError if they are invalid."""
    document = at_data_of(config, request.subject).model_dump(mode="json")
    options = document["sample"]
    require_options(config, request.options)
    options |= request.options
    if request.stochastic:
        require_options(config, {"stochastic": True})
        options["stochastic"] = True
        if "sampler" not in request.options and SAMPLERS[options["sampler"]] == "none":
            options["sampler"] = "dpmpp_2m_sde"
    chosen = validate_config(document, "command line")
    if request.refine_window is not None:
        last_part(chosen.sample, refine_sigma(request))  # raises if there is no such noise level
    return chosen


def require_options(config: RunConfig, options: Mapping[str, Any]) -> None:
    """Raise ValueError if the model's family does not have these sampling options on the command line."""
    fields = type(config.sample).model_fields
    flags = {name: (field.json_schema_extra or {}).get("flag") for name, field in fields.items()}
    unknown = [name for name in options if flags.get(name) is None]
    if unknown:
        has = ", ".join(filter(None, flags.values())) or "none"
        raise ValueError(
            f"--{unknown[0].replace('_', '-')}: models of the family {config.model.family} have no such "
            f"option; leave it out (they have: {has})"
        )


def at_data_of(config: RunConfig, subject: SubjectRequest) -> RunConfig:
    """The run's config with the data set of the subject."""
    if subject.data is None:
        return config
    return config.model_copy(update={"data": at_root(config.data, subject.data)})


def sample_jobs(
    config: RunConfig, subject: SubjectRequest, path: str, num_views: int | None
) -> tuple[list[Job], list[FramedPhoto], list[str]]:
    """The objects with the cameras of a trajectory; photos after framing; notices for the user."""
    if subject.photos is None:
        jobs, notices = data_jobs(config, subject, path, num_views)
        return jobs, [], notices
    framed, source, notices = read_subject_photos(config, subject.photos)
    radius = config.data.object_radius
    cameras = trajectory(path, source.cameras[0, 0], num_views, object_radius=radius)[None]
    return [Job(subject.photos.images[0].stem, source, cameras)], framed, notices


def read_subject_photos(
    config: RunConfig, photos: PhotoRequest
) -> tuple[list[FramedPhoto], Views, list[str]]:
    """Read photos: returns those that were framed, all of them as views [1, s], and notices for the user."""
    radius = config.data.object_radius
    options = {"image_size": config.data.image_size, "resampling": config.data.resampling}
    if photos.cameras:
        files = (photos.images, photos.cameras, photos.intrinsics)
        source = read_photos(*files, object_radius=radius, **options)
        notices = profile_notices(photos.images) + camera_notices(photos.cameras)
        return [], source, notices + placement_notices(photos.images, source)
    framed = frame_photos(photos)
    photos, estimates = with_angles(config, photos, framed)
    given = {"distance": photos.distance, "focal": photos.focal}
    given = {name: value for name, value in given.items() if value is not None}
    cameras = orbit_cameras(*photos.orbit_angles(), object_radius=radius, **given)
    notices = [photo.notice for photo in framed if photo.notice is not None]
    return framed, framed_views(framed, cameras, **options), notices + estimates


def frame_photos(photos: PhotoRequest) -> list[FramedPhoto]:
    """Frame photos without cameras like the training data."""
    remover = background_remover() if photos.cut_out else None
    nothing = [None] * len(photos.images)
    fill = FILL if photos.fill is None else photos.fill
    return [
        frame_photo(photo, mask, fill=fill, box=box, remover=remover)
        for photo, mask, box in zip(
            photos.images, photos.masks or nothing, photos.boxes or nothing, strict=True
        )
    ]


def data_jobs(
    config: RunConfig, subject: SubjectRequest, path: str, num_views: int | None
) -> tuple[list[Job], list[str]]:
    """Objects of a data set, and notices about how it was read."""
    objects, radius = open_split(config.data, subject.split), config.data.object_radius
    views = None if subject.source_views is None else list(subject.source_views)
    jobs = [
        data_job(objects, index, views=views, path=path, num=num_views, object_radius=radius)
        for index in choose_objects(objects, num=subject.num or 1, names=subject.names)
    ]
    return jobs, list(dict.fromkeys(objects.notices))


def output_folders(config: RunConfig, output: Path | None, jobs: list[Job]) -> list[Path]:
    """The output folder of each object."""
    if output is not None and len(jobs) == 1:
        return [output]
    parent = Path("samples") / config.name if output is None else output
    return [parent / job.name for job in jobs]


def refine_sigma(request: SampleRequest) -> float:
    """The initial noise level of the refinement."""
    return JOINT_SIGMA if request.refine_sigma is None else request.refine_sigma
