"""XFactor (Mitchel, Ryu, Sitzmann, arXiv:2510.13063): views under latent poses, learnt without cameras.

A pose encoder reads a latent pose off two frames; a renderer draws a scene under it, which may be another.
Nothing is drawn at random while sampling. Axes: b scene, s given view, t target view, g half of the patches.
"""

from collections import defaultdict

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor, nn

from data.scenes.batch import SceneBatch, Views
from diffusion.samplers import SampleOptions
from models.base import NVSModel, Poses, Prediction, SampleCallback
from models.perceptual import load_stlpips_network
from models.xfactor.augmentation import augment
from models.xfactor.config import XFactorConfig
from models.xfactor.masks import Halves, quadrant_halves
from models.xfactor.networks import PoseEncoder, Renderer, initialise
from models.xfactor.objective import Draws, draw_choices


class XFactor(NVSModel):
    """Pose encoder and renderer."""

    Config = XFactorConfig
    deterministic = True

    def __init__(self, config: XFactorConfig, *, init_weights: bool = True):
        super().__init__()
        self.config = config
        self.pose_encoder, self.renderer = PoseEncoder(config.network), Renderer(config.network)
        if init_weights:
            initialise(self)
            if config.loss.perceptual:
                self.distance = load_stlpips_network()
                self.notices = ("perceptual loss: stLPIPS (published: LPIPS on VGG16)",)

    @property
    def requires(self) -> frozenset[str]:
        """Only images."""
        return frozenset()

    @staticmethod
    def check_image_size(config: BaseModel, image_size: int) -> None:
        """Quadrants must be whole patches."""
        if image_size % (2 * config.network.patch):
            raise ValueError(
                f"data.image_size={image_size} is no even multiple of model.network.patch="
                f"{config.network.patch}; change one of them"
            )

    def parts(self) -> dict[str, nn.Module]:
        """The two networks."""
        return {"pose_encoder": self.pose_encoder, "renderer": self.renderer}

    def reference_modules(self) -> dict[str, nn.Module]:
        """The network of the perceptual loss."""
        return {"distance": self.distance} if hasattr(self, "distance") else {}

    def networks(self) -> tuple[nn.Module, ...]:
        """The layers of both."""
        return self.pose_encoder.transformer, self.renderer.transformer

    def loss(self, batch: SceneBatch, *, progress: float) -> dict[str, Tensor]:
        """Error of targets drawn half by half under the pose of the other half (section 3)."""
        valid, images = _valid_views(batch), batch.source.images
        draws = draw_choices(batch.seeds, valid, self.config.loss)
        truth = torch.stack(
            [
                batch.target.images[scene, 0] if place < 0 else images[scene, place]
                for scene, place in enumerate(draws.targets)
            ]
        )
        groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for scene, views in enumerate(valid):
            groups[len(views), scene in draws.masked].append(scene)
        drawn: dict[int, Tensor] = {}
        for (_, masked), scenes in groups.items():
            given = torch.stack([images[scene, valid[scene]] for scene in scenes])
            found = self._reconstruct(given, truth[scenes], scenes, draws, masked=masked)
            drawn |= dict(zip(scenes, found, strict=True))
        result = torch.stack([drawn[scene] for scene in range(len(valid))])
        terms = {"l1": self.config.loss.l1 * (result - truth).abs().mean()}
        if "distance" in self.reference_modules():
            terms["perceptual"] = self.config.loss.perceptual * self.distance(result, truth).mean()
        return terms

    def _reconstruct(
        self,
        given: Float[Tensor, "b s 3 h w"],
        truth: Float[Tensor, "b 3 h w"],
        scenes: list[int],
        draws: Draws,
        *,
        masked: bool,
    ) -> Float[Tensor, "b 3 h w"]:
        """The targets of scenes with equally many views, all with halves or all without."""
        halves = None
        if masked:
            grid = (size // self.config.network.patch for size in truth.shape[-2:])
            halves = quadrant_halves(draws.patterns[scenes].to(truth.device), *grid)
        frames = torch.cat([given, truth[:, None]], dim=1)
        changed = torch.stack(
            [
                torch.stack(
                    [augment(own[[0, k]], self.config.augmentation, draws.generators[scene]) for k in others]
                )
                for own, scene in zip(frames, scenes, strict=True)
                for others in [range(1, frames.shape[1])]
            ]
        )
        poses = self._pairwise(changed, halves)
        if masked and self.config.loss.swap:
            poses = poses.flip(2)
        return self.renderer(given, poses[:, :-1], poses[:, -1], halves)

    def _pairwise(
        self, pairs: Float[Tensor, "b k 2 3 h w"], halves: Halves | None = None
    ) -> Float[Tensor, "b v g p"]:
        """Poses of k frames and of the reference before them (v = k + 1), each read off a pair."""
        repeated = halves and Halves(halves.ids.repeat_interleave(pairs.shape[1], dim=0))
        poses = self.pose_encoder(pairs.flatten(0, 1), repeated)[:, 1].unflatten(0, pairs.shape[:2])
        return torch.cat([torch.zeros_like(poses[:, :1]), poses], dim=1)

    def poses(self, frames: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v p"]:
        """Latent poses relative to the first frame, each read off that frame and its own."""
        if frames.shape[1] == 1:
            return frames.new_zeros(len(frames), 1, self.config.network.pose_size)
        first = frames[:, :1].expand(-1, frames.shape[1] - 1, -1, -1, -1)
        return self._pairwise(torch.stack([first, frames[:, 1:]], dim=2))[:, :, 0].float()

    def read_targets(self, driving: Views) -> Poses:
        """Latent poses relative to the first view of each scene."""
        return Poses(self.poses(driving.images))

    def encode(self, source: Views) -> Views:
        """The photos themselves: poses are relative to the first one, so that `draw` works them out."""
        return source

    def draw(
        self,
        scene: Views,
        cameras: Poses,
        seeds: Int[Tensor, "b t"],
        options: SampleOptions,
        *,
        init_images: Float[Tensor, "b t 3 h w"] | None = None,
        callback: SampleCallback | None = None,
    ) -> Prediction:
        """Views under poses relative to the first photo of the scene.

        Nothing is denoised: seeds, options, `init_images` and `callback` are not used. Raises ValueError
        where cameras are given instead of poses.
        """
        if not isinstance(cameras, Poses):
            raise ValueError(
                "this model draws under poses read off a video and knows no cameras; give a driving video"
            )
        rows = []
        for images, valid, latents in zip(scene.images, scene.valid, cameras.latents, strict=True):
            given = images[valid][None]
            own = self.poses(given)[:, :, None]
            count = len(latents)
            drawn = self.renderer(
                given.expand(count, -1, -1, -1, -1), own.expand(count, -1, -1, -1), latents[:, None]
            )
            rows.append(drawn)
        return Prediction(torch.stack(rows))


def _valid_views(batch: SceneBatch) -> list[list[int]]:
    """The given views of each scene that are no padding."""
    count = batch.source.valid.shape[1]
    if batch.source_indices is None:
        return [row.nonzero()[:, 0].tolist() for row in batch.source.valid.cpu()]
    found: list[list[int]] = [[] for _ in batch.scene_ids]
    for index in batch.source_indices.tolist():
        found[index // count].append(index % count)
    return found
