"""ViewFusion: novel views from any number of unordered photos, whose cameras need not be known.

One U-Net looks at every photo on its own, beside the noisy target and the target's angle. Each pass suggests
noise and how much it is to be heeded, pixel by pixel, and all passes together give the denoising direction
(Spiegl et al. 2024, arXiv:2402.02906). Axes: b scene, s source view, t target view, n = b t, p passes, h, w.
"""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, Field
from torch import Tensor, nn

from data.cameras.pinhole import Cameras
from data.scenes.batch import SceneBatch, Views
from data.scenes.facts import DataFacts
from data.seeds import normal, uniform, view_seeds
from diffusion.samplers import SampleOptions
from diffusion.vp_schedule import VPSchedule, add_noise, noise_from_velocity, velocity_of
from models.base import NVSModel, Prediction, SampleCallback
from models.denoising.conditional_denoising import ImageRange, to_model_range
from models.device import to_device_of
from models.viewfusion.angles import AngleConfig, angle_features, fit_angles
from models.viewfusion.composition import Composition, Passes, compose, passes_of, passes_of_scenes
from models.viewfusion.drawing import PUBLISHED_OPTIONS, ViewFusionSampleOptions, draw_images
from models.viewfusion.network import UNet, UNetConfig

PUBLISHED_REINSERTION = 0.1 / 24  # for each source view: a tenth of scenes are dealt again from all 24 views
FITTED_OBJECTS = 8  # of the training data, by which angles are found


class ViewFusionConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The network, its inputs, and its training."""

    family: Literal["viewfusion"] = "viewfusion"
    unet: UNetConfig = UNetConfig()
    weighting: bool = Field(True, description="false: the mean of all views' noise (ablation)")
    angle: AngleConfig = AngleConfig()
    schedule: VPSchedule = VPSchedule()
    predicts: Literal["noise", "velocity"] = Field(
        "noise",
        description="what passes suggest and weights compose: noise (published); velocity, which says the "
        "same but learns faster and needs fewer steps",
    )
    image_range: ImageRange = Field(
        "symmetric", description="of the images that the network learns: -1 to 1, or 0 to 1 (published)"
    )
    target_among_sources: Annotated[float, Field(ge=0, le=1)] | Literal["published"] = Field(
        "published",
        description="share of targets that take the place of one of their source views; published: 0.1 / 24 "
        "for each source view",
    )


class ViewFusion(NVSModel):
    """A weight-shared U-Net, and the composition of its passes."""

    Config = ViewFusionConfig
    SampleConfig = ViewFusionSampleOptions
    options = ViewFusionSampleOptions()
    published_options = PUBLISHED_OPTIONS
    training_settings = ("model.target_among_sources", "model.unet.dropout")

    def __init__(self, config: ViewFusionConfig, *, init_weights: bool = True):
        super().__init__()
        self.config = config
        self.unet = UNet(
            config.unet,
            in_channels=9 if config.angle.relative else 6,
            out_channels=6 if config.weighting else 3,
            condition_features=config.angle.num_features(config.unet.channels // 2),
        )

    @staticmethod
    def check_image_size(config: ViewFusionConfig, image_size: int) -> None:
        """Raise ValueError where the network's levels do not divide the size."""
        if image_size % config.unet.multiple:
            raise ValueError(
                f"data.image_size {image_size} does not suit model.unet, which has "
                f"{len(config.unet.multipliers)} levels; use a multiple of {config.unet.multiple}"
            )

    @classmethod
    def fit_to_data(cls, config: ViewFusionConfig, facts: DataFacts) -> ViewFusionConfig:
        """With offset and direction of angles as the training data have them."""
        return config.model_copy(
            update={"angle": fit_angles(config.angle, facts.some_cameras(FITTED_OBJECTS))}
        )

    def parts(self) -> dict[str, nn.Module]:
        """The U-Net."""
        return {"unet": self.unet}

    def networks(self) -> tuple[nn.Module, ...]:
        """The U-Net."""
        return (self.unet,)

    def loss(self, batch: SceneBatch, *, progress: float) -> dict[str, Tensor]:
        """Mean squared error of the composed noise at a random noise level of the schedule."""
        clean = to_model_range(batch.target.images, self.config.image_range).flatten(0, 1)
        num_targets, schedule = batch.target.images.shape[1], self.config.schedule
        seeds = view_seeds(batch.seeds, num_targets)

        # A random noise level for each target: one of the schedule's intervals, then a place in it.
        steps = 1 + (uniform(seeds, (), stream="step") * (schedule.steps - 1)).long()
        gamma = schedule.gamma_between(steps, uniform(seeds, (), stream="noise level"))
        gamma = to_device_of(clean, gamma)
        noise = to_device_of(clean, normal(seeds, clean.shape[1:], stream="noise"))

        views, valid = self._views_of_each_target(batch.source, num_targets)
        views = self._with_targets_among(views, valid, batch.target, seeds)
        condition = self._condition(batch.source, batch.target.cameras)
        noisy = add_noise(clean, noise, gamma)
        composed = self.compose(views, valid, condition, noisy, gamma, passes=self._passes(batch))
        wanted = noise if self.config.predicts == "noise" else velocity_of(clean, noise, gamma)
        return {"diffusion": (composed.prediction - wanted).square().mean()}

    def encode(self, source: Views) -> Views:
        """The photos themselves, without their geometry."""
        return replace(source, geometry=None)

    def draw(
        self,
        scene: Views,
        cameras: Cameras,
        seeds: Int[Tensor, "b t"],
        options: SampleOptions,
        *,
        init_images: Float[Tensor, "b t 3 h w"] | None = None,
        callback: SampleCallback | None = None,
    ) -> Prediction:
        """Draw the views that the photos suggest, with the weights of the last evaluation of the network."""
        views, valid = self._views_of_each_target(scene, cameras.shape[1])
        condition = self._condition(scene, cameras)
        passes = passes_of(valid)
        weights: list[Tensor | None] = [None]

        def predict_noise(noisy: Tensor, gamma: Tensor) -> Tensor:
            composed = self.compose(views, valid, condition, noisy, gamma, passes=passes)
            weights[0] = composed.weights
            if self.config.predicts == "noise":
                return composed.prediction
            return noise_from_velocity(composed.prediction, noisy, gamma)

        ways = {"image_range": self.config.image_range, "init_images": init_images, "callback": callback}
        ways["device"] = self.device
        images = draw_images(
            predict_noise, seeds, scene.images.shape[-2:], options, self.config.schedule, **ways
        )
        found = None if weights[0] is None else weights[0].unflatten(0, seeds.shape)
        return Prediction(images, weights=found)

    def compose(
        self,
        views: Float[Tensor, "n s c h w"],
        valid: Bool[Tensor, "n s"],
        condition: Float[Tensor, "n f"],
        noisy: Float[Tensor, "n 3 h w"],
        gamma: Float[Tensor, "n"],
        *,
        passes: Passes | None = None,
    ) -> Composition:
        """Predict the noise in the noisy targets, by one pass of the network per source view.

        Views and noisy targets are in the network's own range; `condition` is that of `angle_features`;
        `passes` are those of `valid`, if known.
        Raises ValueError if a target has no view.
        """
        passes = passes or passes_of(valid)
        seen = torch.cat([views[passes.target, passes.view], noisy[passes.target]], dim=1)
        outputs = self.unet(seen, gamma[passes.target], condition[passes.target])
        return compose(outputs, passes, weighted=self.config.weighting)

    def _passes(self, batch: SceneBatch) -> Passes | None:
        """Computed on the CPU if the valid views are known there."""
        if batch.source_indices is None:
            return None
        (num, num_views), num_targets = batch.source.valid.shape, batch.target.valid.shape[1]
        passes = passes_of_scenes(batch.source_indices, num_views, num_targets, num)
        return passes.apply(lambda tensor: to_device_of(batch.target.images, tensor))

    def _views_of_each_target(self, source: Views, num_targets: int) -> tuple[Tensor, Tensor]:
        """Source views [n s c h w] in the network's range, and their validity, for every target."""
        images = to_model_range(source.images, self.config.image_range)
        if self.config.angle.relative:
            images = torch.cat([images[:, :1].expand_as(images), images], dim=2)
        each = [tensor.repeat_interleave(num_targets, dim=0) for tensor in (images, source.valid)]
        return each[0], each[1]

    def _with_targets_among(
        self, views: Tensor, valid: Tensor, target: Views, seeds: Int[Tensor, "n"]
    ) -> Tensor:
        """Views of which now and then one is the target itself, at random."""
        share = self.config.target_among_sources
        if share == 0:
            return views
        counts = valid.sum(dim=1)
        probability = PUBLISHED_REINSERTION * counts if share == "published" else share
        chance, place = (
            to_device_of(views, uniform(seeds, (), stream=name)) for name in ("among sources", "which source")
        )
        # The index of the chosen view among the valid ones.
        nth = (place * counts).long()
        order = valid.cumsum(dim=1) - 1
        taken = (order == nth[:, None]) & valid & (chance < probability)[:, None]
        images = to_model_range(target.images, self.config.image_range).flatten(0, 1)[:, None]
        if self.config.angle.relative:  # the reference stays
            images = torch.cat([views[:, :, :3], images.expand_as(views[:, :, 3:])], dim=2)
        return torch.where(taken[:, :, None, None, None], images, views)

    def _condition(self, source: Views, cameras: Cameras) -> Float[Tensor, "n f"]:
        first = source.cameras[:, 0] if self.config.angle.relative else None
        features = angle_features(cameras, first, self.config.angle, self.unet.noise_features)
        return features.flatten(0, 1)
