"""The model behind the viewer: encodes volumes, renders previews and samples views. Not thread-safe."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from config.run import RunConfig
from data.cameras.pinhole import Cameras
from data.cameras.trajectories import working_radius
from data.scenes.batch import Views, concatenate
from diffusion.samplers import SampleOptions
from models.base import Prediction, SampleCallback
from models.device import autocast
from models.volumes.volume_model import VolumeModel
from nerf.renderer import surfaces
from nerf.volume import FrustumVolume
from scripts.view.subjects import Subjects

CACHED = 32  # views whose volumes are kept


@dataclass(frozen=True, eq=False)
class Encoded:
    """The volumes of an object, encoded from some of its views; compared by identity."""

    name: str
    source: Views  # a batch of one scene
    scene: FrustumVolume

    @property
    def radius(self) -> float:
        """Radius of the working volume, a sphere around the origin; scene units."""
        return working_radius(self.source.cameras[0, 0])


@dataclass(frozen=True)
class Preview:
    """A rendering of a volume from one camera."""

    latent: Float[Tensor, "f h w"]  # 0 to 1, the first three are red, green and blue
    depth: Float[Tensor, "h w"]  # of the surface; the far plane if there is none
    opacity: Float[Tensor, "h w"]
    near: float
    far: float


class Engine:
    """A model and its subjects; the volumes of the last `CACHED` views are cached."""

    def __init__(self, model: VolumeModel, config: RunConfig, subjects: Subjects, device: torch.device):
        self.model, self.config, self.subjects = model, config, subjects
        self._device = device
        self._encoded = lru_cache(maxsize=CACHED)(self._encode)

    def encode(self, name: str, views: Sequence[int]) -> Encoded:
        """Encode an object from some of its views."""
        parts = [self._encoded(name, view) for view in views]
        source, scenes = (list(column) for column in zip(*parts, strict=True))
        return Encoded(name, concatenate(source, axis=1), concatenate(scenes, axis=1))

    @torch.no_grad()
    def preview(self, encoded: Encoded, cameras: Cameras, size: tuple[int, int]) -> Preview:
        """Render the volumes from a camera [1, 1] at (height, width) pixels."""
        on_device = cameras.to(self._device)
        with self._precision():
            rendering = self.model.render(encoded.scene, on_device, size=size)
        depth, opacity = surfaces(rendering, on_device, size)
        parts = rendering.latent[0, 0], depth[0, 0, 0], opacity[0, 0, 0]
        return Preview(*(part.float().cpu() for part in parts), float(cameras.near), float(cameras.far))

    @torch.no_grad()
    def sample(
        self, encoded: Encoded, cameras: Cameras, seed: int, options: SampleOptions, callback: SampleCallback
    ) -> Prediction:
        """Sample a view from a camera [1, 1]."""
        with self._precision():
            return self.model.draw(
                encoded.scene,
                cameras.to(self._device),
                torch.tensor([[seed]]),
                options,
                callback=callback,
            )

    @torch.no_grad()
    def _encode(self, name: str, view: int) -> tuple[Views, FrustumVolume]:
        source = self.subjects.view(name, view)
        with self._precision():
            return source, self.model.encode(source.to(self._device))

    def _precision(self) -> torch.autocast:
        return autocast(self.config.train.precision, self._device)
