"""The request of scripts.export_geometry. Imports nothing slow."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from scripts.sampling.request import SubjectRequest

SurfaceKind = Literal["shade", "density"]
SURFACES: tuple[SurfaceKind, ...] = get_args(SurfaceKind)


@dataclass(frozen=True)
class CloudRequest:
    """How points are sampled: at the end of rays, or on the mesh."""

    source: Literal["depth", "mesh"] = "depth"
    num_cameras: int = 96  # around the object, for source depth
    least_opacity: float = 0.5  # of a ray, 0 to 1
    num_points: int = 30_000  # for source mesh


@dataclass(frozen=True)
class TruthRequest:
    """The true meshes with which the geometry is compared."""

    meshes: str  # "shapes", or a path of meshes
    up: str | None = None  # axes of the meshes, as for scripts.render_meshes
    front: str | None = None
    figures: Path | None = None  # JSON file for the figures of each object


@dataclass(frozen=True)
class ExportRequest:
    """The objects to export, the extraction options, and the output."""

    checkpoint: str
    subject: SubjectRequest
    film: Path | None = None  # views sampled by sample_views.py, as further sources
    surface: SurfaceKind = "shade"
    level: float | None = None
    resolution: int = 128  # grid points per side
    largest: bool = False  # keep only the largest of several pieces
    smooth: int = 0  # iterations of smoothing
    cloud: CloudRequest = CloudRequest()
    truth: TruthRequest | None = None
    output: Path | None = None
    picture: Path | None = None
    device: str = "auto"

    def __post_init__(self):
        if self.surface == "shade" and self.level is not None and self.level >= 1:
            raise ValueError(f"--level {self.level:g} is a share of light, below 1, for --surface shade")
        if self.truth is not None and self.subject.photos is not None:
            raise ValueError("--truth is for objects of a data set and --image for photos; give only one")
        if self.film and len(self.subject.names or [None]) * (self.subject.num or 1) > 1:
            raise ValueError("--film shows one object; give only this one with --object")
