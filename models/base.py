"""The contract between model families and the programs that train, sample and judge them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor, nn

from data.cameras.pinhole import Cameras
from data.config import DataConfig
from data.scenes.batch import Applicable, SceneBatch, Views
from diffusion.samplers import SampleOptions

OPAQUE = 0.5  # opacity from which there is a surface


@dataclass(frozen=True)
class Poses:
    """Latent poses that a family itself read off the frames of a video."""

    latents: Float[Tensor, "*batch p"]  # batch shape [b, t]

    @property
    def shape(self) -> torch.Size:
        """The batch shape."""
        return self.latents.shape[:-1]

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Poses":
        """The same with `function` applied to the latents."""
        return Poses(function(self.latents))


Targets = Cameras | Poses  # from where a view is drawn

# Called after every denoising step with its index and the current estimate of the clean images, [b t 3 h w].
SampleCallback = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Prediction:
    """Novel views, and what else a family knows about them: writers and evaluations skip what is None."""

    images: Float[Tensor, "b t 3 h w"]  # RGB in [-1, 1]
    preview: Float[Tensor, "b t 3 h w"] | None = None  # RGB in [-1, 1], without sampling
    depth: Float[Tensor, "b t 1 h w"] | None = (
        None  # scene units along the optical axis; far where nothing is
    )
    opacity: Float[Tensor, "b t 1 h w"] | None = None  # 0 to 1

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Prediction":
        """The same with `function` applied to every tensor that is there."""
        parts = (getattr(self, field.name) for field in fields(self))
        return Prediction(*(None if part is None else function(part) for part in parts))


class NVSModel(nn.Module, ABC):
    """A model of novel views. All that it draws at random follows from the seeds it is given.

    A family also has `Config`, its pydantic model, and is constructed by `Family(config, init_weights=True)`.
    Without `init_weights`, all weights will be loaded, so that initial ones are neither computed nor fetched.
    """

    notices: tuple[str, ...] = ()  # what the user should know about how the model was made
    training_settings: tuple[str, ...] = ()  # keys of the config that do not change what weights compute
    resource_settings: tuple[str, ...] = ()  # keys that change neither that nor training, but what both cost
    deterministic: bool = False  # whether views are the same whatever their seeds
    SampleConfig: type[BaseModel] = SampleOptions  # how the family samples; its fields may carry a flag
    options: BaseModel = SampleOptions()  # of a trained model: how its run samples
    trained_on: DataConfig | None = None  # of a trained model: the data of its run

    @property
    def device(self) -> torch.device:
        """Where its weights are, and its input must be, but for seeds, which may be anywhere."""
        return next(self.parameters()).device

    @property
    def requires(self) -> frozenset[str]:
        """Fields of `Views` that a training batch must hold, beside images and `valid`."""
        return frozenset({"cameras"})

    @property
    def max_joint_views(self) -> int:
        """How many views look at each other while they are drawn; 1: views are independent.

        Samplers never split a group of so many consecutive views over two calls of `draw`.
        """
        return 1

    @staticmethod
    def check_image_size(config: BaseModel, image_size: int) -> None:
        """Raise ValueError naming a remedy where a model of this config cannot draw pictures of that size."""

    @abstractmethod
    def loss(self, batch: SceneBatch, *, progress: float) -> dict[str, Tensor]:
        """Weighted scalar terms, means over the scenes of the batch; their sum is minimised.

        `progress` is the share of the run's updates made so far, 0 to 1. The result for a batch is the mean
        of the results for its scenes. Every trained parameter gets a gradient at any progress.
        """

    @abstractmethod
    def encode(self, source: Views) -> Applicable:
        """What `draw` needs to know of the source views, worked out once for any number of novel views.

        All its tensors have axes b and s first, and views are encoded one by one: encodings of some, joined
        along s by `data.scenes.batch.concatenate`, are the encoding of all.
        """

    def read_targets(self, driving: Views) -> Targets:
        """From where the views of a video are seen: targets [b, v] for `draw`.

        Its cameras, unless a family reads poses off the frames themselves: these are then relative to the
        first view, which stands for the first source view of the scene that is drawn.
        """
        if driving.cameras is None:
            raise ValueError("the driving video has no cameras, which this model needs; give posed views")
        return driving.cameras

    @abstractmethod
    def draw(
        self,
        scene: Applicable,
        cameras: Targets,
        seeds: Int[Tensor, "b t"],
        options: SampleOptions,
        *,
        init_images: Float[Tensor, "b t 3 h w"] | None = None,
        callback: SampleCallback | None = None,
    ) -> Prediction:
        """Views of an encoded scene from `cameras` [b, t], as large as its source photos.

        A view depends on its own seed, its scene and, where views are drawn jointly, its group: never on the
        batch. Models that denoise start with `init_images` in [-1, 1]
        under noise of level `options.sigma_max`, where they are given.
        """

    def sample(
        self,
        source: Views,
        cameras: Targets,
        seeds: Int[Tensor, "b t"],
        options: SampleOptions,
        *,
        callback: SampleCallback | None = None,
    ) -> Prediction:
        """Views from `cameras` [b, t], as large as the source photos: `encode`, then `draw`."""
        return self.draw(self.encode(source), cameras, seeds, options, callback=callback)

    def diagnose(self, scene: Applicable, target: Views, seeds: Int[Tensor, "b t"]) -> dict[str, float]:
        """What an encoded scene that was not trained on, and its true views, tell of the model's health.

        Figures from 0 to 1 by flat names such as "health/opacity_object", of what is being taught alone;
        models/training/sanity_checks.py knows which are bad. None by default. Gradients are off.
        """
        return {}

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The parts that may learn at their own rates. Together they hold every trained parameter once."""

    def reference_modules(self) -> dict[str, nn.Module]:
        """Frozen modules that are kept by reference: never saved, averaged or counted, and in no part."""
        return {}

    def networks(self) -> tuple[nn.Module, ...]:
        """The parts of it worth compiling, each called many times or for long: none, unless a family knows
        better."""
        return ()

    def adapt(self, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Weights of a related model, made to fit this one where that is possible, and what was done, line by
        line for the user. Nothing, unless a family knows better."""
        return weights, []

    def scheduled(self, progress: float) -> dict[str, float]:
        """Current values of what changes in the course of a run of this config, for the log, by keys such as
        "schedule/noise_mean". Nothing, unless a family knows better."""
        return {}

    def forward(self, batch: SceneBatch, progress: float) -> dict[str, Tensor]:
        """`loss`, under the name by which data-parallel wrappers call it."""
        return self.loss(batch, progress=progress)


def surface_depth(
    depth: Float[Tensor, "*batch 1 h w"], opacity: Float[Tensor, "*batch 1 h w"], cameras: Cameras
) -> Float[Tensor, "*batch h w"]:
    """Depth of what is seen, 0 where less than half opaque, of a `Prediction` from `cameras` [*batch].

    A prediction's depth has the far plane show through what is not quite opaque; here it does not.
    """
    far = cameras.far[..., None, None]
    depth, opacity = depth.squeeze(-3), opacity.squeeze(-3)
    behind = (1 - opacity) * far
    return torch.where(opacity >= OPAQUE, (depth - behind) / opacity.clamp_min(OPAQUE), 0.0).clamp_min(0)


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by name, without those of `reference_modules`."""
    prefixes = _reference_prefixes(model)
    return {name: value for name, value in model.named_parameters() if not name.startswith(prefixes)}


def own_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict without `reference_modules`: what a checkpoint holds."""
    prefixes = _reference_prefixes(model)
    return {name: value for name, value in model.state_dict().items() if not name.startswith(prefixes)}


def _reference_prefixes(model: nn.Module) -> tuple[str, ...]:
    references = model.reference_modules().values() if isinstance(model, NVSModel) else ()
    return tuple(f"{name}." for name, module in model.named_modules() if module in list(references))
