"""Export surfaces and point clouds of objects, and compare them with true meshes."""

import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray

from config.run import RunConfig
from data.cameras.pinhole import cameras_from_poses
from data.cameras.poses import cameras_all_round
from data.files import require_writable
from data.images.files import read_picture
from data.images.pixels import from_uint8
from data.scenes.batch import Views, all_valid, concatenate
from data.scenes.views import Job
from models.checkpoints.loading import load_model
from models.device import autocast, choose_device, place
from models.volumes.volume_model import VolumeModel, volumes_of
from scripts.common.progress import progress_bar
from scripts.export_geometry.extraction import SurfaceOptions, depth_cloud, extract_surface
from scripts.export_geometry.picture import drawn, write_picture
from scripts.export_geometry.request import ExportRequest
from scripts.export_geometry.surfaces import PointCloud, Surface, points_on, write_glb, write_ply
from scripts.export_geometry.truth import Truth
from scripts.sampling.jobs import at_data_of, output_folders, sample_jobs
from scripts.sampling.reader import record_of, sequences_in
from scripts.training.messages import tell

MESH, CLOUD = "mesh.glb", "cloud.ply"


def export_geometry(request: ExportRequest) -> bool:
    """Export the objects of a request, and print the files and figures; returns whether any object failed.

    Objects that fail are reported, and the others exported. On interruption the results so far are written.
    Errors of the user are raised before the first object if possible.
    """
    exporter, jobs = open_exporter(request)
    folders = output_folders(exporter.config, request.output, jobs)
    written = [folder / name for folder in folders for name in (MESH, CLOUD)]
    figures = request.truth.figures if request.truth else None
    for path in [*written, *filter(None, (figures, request.picture))]:
        require_writable(path)

    lines, problems, blocks = [], [], []
    try:
        with progress_bar(jobs, unit="object") as bar:
            for job, folder in zip(bar, folders, strict=True):
                try:
                    blocks.append(exporter.export(job, folder))
                    lines += [f"{folder / name}" for name in (MESH, CLOUD)]
                except ValueError as error:
                    if isinstance(error.__cause__, ImportError):  # all other objects would fail, too
                        raise
                    problems.append(f"export_geometry: {job.name}: {error}")
    finally:
        print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
        print(*lines, sep="\n", end="\n" if lines else "")
        if request.picture and blocks:
            print(write_picture(request.picture, blocks))
        if exporter.truth and exporter.truth.figures:
            print(*exporter.truth.report(figures), sep="\n")
    return bool(problems)


def open_exporter(request: ExportRequest) -> tuple["Exporter", list[Job]]:
    """Load the model of a request, and open its objects."""
    device = choose_device(request.device)
    model, config, _ = load_model(request.checkpoint)
    model = place(volumes_of(model, request.checkpoint), device)
    config = at_data_of(config, request.subject)
    # The target cameras of the jobs are not used.
    jobs, _, notices = sample_jobs(config, request.subject, "circle", 1)
    tell(notices, "export_geometry")
    truth = Truth.of(config.data, request.truth, [job.name for job in jobs]) if request.truth else None
    return Exporter(model, config, request, truth, device), jobs


class Exporter:
    """Writes the geometry of one object at a time, and measures it if the truth is known."""

    def __init__(
        self,
        model: VolumeModel,
        config: RunConfig,
        request: ExportRequest,
        truth: Truth | None,
        device: torch.device,
    ):
        self.model, self.config, self.request, self.truth, self.device = model, config, request, truth, device

    def export(self, job: Job, folder: Path) -> UInt8[ndarray, "h w 3"] | None:
        """Write the files of one object; returns its part of the picture, if requested.

        Raises ValueError if there is no surface.
        """
        true_mesh = self.truth.mesh(job.name) if self.truth else None
        source = with_sampled_views(job, self.config, self.request.film)
        surface, cloud = self.extract(job, source)
        write_glb(folder / MESH, surface)
        write_ply(folder / CLOUD, cloud)
        if self.truth:
            self.truth.measure(job.name, true_mesh, source, surface, cloud)
        return drawn(job.source, true_mesh, surface, cloud) if self.request.picture else None

    def extract(self, job: Job, source: Views) -> tuple[Surface, PointCloud]:
        """Mesh and point cloud of one object. Raises ValueError if there is no surface."""
        request, wanted = self.request, self.request.cloud
        options = SurfaceOptions(
            request.surface, request.level, request.resolution, request.largest, request.smooth
        )
        with torch.no_grad():
            with autocast(self.config.train.precision, self.device):
                scene = self.model.encode(source.to(self.device))
            photographed = job.source.cameras.to(self.device)
            around = cameras_all_round(photographed[0, 0], wanted.num_cameras)
            cameras = concatenate([photographed, around], axis=1)
            cloud = depth_cloud(self.model, scene, cameras, least_opacity=wanted.least_opacity)
            surface = extract_surface(self.model, scene, cloud, options)
        if wanted.source == "mesh":
            cloud = points_on(surface, wanted.num_points, np.random.default_rng(0))
        return surface, cloud


def with_sampled_views(job: Job, config: RunConfig, folder: Path | None) -> Views:
    """The source views, followed by the sampled views of the object in a folder.

    Raises ValueError if the folder has none, or shows another object, or its images have another size.
    """
    source = job.source
    if folder is None:
        return source
    sequences = sequences_in(folder)
    if len(sequences) > 1:
        raise ValueError(f"{folder}: has the views of {len(sequences)} objects; give the folder of one")
    shown = record_of(sequences[0].folder).get("object", job.name)  # the record may be missing in a copy
    if shown != job.name:
        raise ValueError(f"{folder}: shows {shown}; give views of {job.name}, or --object {shown}")
    pictures = [from_uint8(read_picture(path)) for path in sequences[0].pictures]
    if any(picture.shape != source.images.shape[2:] for picture in pictures):
        raise ValueError(f"{folder}: its images have another size than the source's; sample them again")
    poses, intrinsics = sequences[0].cameras.cam_to_world, sequences[0].cameras.intrinsics
    cameras = cameras_from_poses(poses, intrinsics, object_radius=config.data.object_radius)
    return concatenate([source, all_valid(torch.stack(pictures)[None], cameras[None])], axis=1)
