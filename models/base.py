"""The interface between model families and the programs that train, sample and evaluate them."""

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
from data.scenes.facts import DataFacts
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
    """Novel views with optional extra outputs; writers and evaluations skip fields that are None."""

    images: Float[Tensor, "b t 3 h w"]  # RGB in [-1, 1]
    preview: Float[Tensor, "b t 3 h w"] | None = None  # RGB in [-1, 1], without sampling
    depth: Float[Tensor, "b t 1 h w"] | None = None  # z-depth in scene units; far for background
    opacity: Float[Tensor, "b t 1 h w"] | None = None  # 0 to 1
    weights: Float[Tensor, "b t s 3 h w"] | None = None  # share of each source view in a pixel; sum 1 over s

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Prediction":
        """Return a copy with `function` applied to every tensor that is not None."""
        parts = (getattr(self, field.name) for field in fields(self))
        return Prediction(*(None if part is None else function(part) for part in parts))


class NVSModel(nn.Module, ABC):
    """A novel view synthesis model. All its randomness follows from the given seeds.

    A family also has `Config`, its pydantic model, and is constructed by `Family(config, init_weights=True)`.
    Without `init_weights`, initial weights are neither computed nor fetched, since all will be loaded.
    """

    notices: tuple[str, ...] = ()  # messages for the user about the construction
    training_settings: tuple[str, ...] = ()  # config keys that do not affect what given weights compute
    resource_settings: tuple[str, ...] = ()  # config keys that affect only the cost of computation
    deterministic: bool = False  # whether views are independent of seeds
    same_noise: bool = False  # whether all views of an object begin with the same noise, also if not asked to
    SampleConfig: type[BaseModel] = SampleOptions  # the family's sampling options; fields may have a flag
    options: BaseModel = SampleOptions()  # of a trained model: its run's sampling options
    published_options: SampleOptions | None = None  # of the published code; None: 250 stochastic Euler steps
    trained_on: DataConfig | None = None  # of a trained model: its run's data config

    @property
    def device(self) -> torch.device:
        """The device of the weights and inputs; seeds may be on any device."""
        return next(self.parameters()).device

    @property
    def requires(self) -> frozenset[str]:
        """Fields of `Views` that a training batch must have, besides images and `valid`."""
        return frozenset({"cameras"})

    @property
    def max_joint_views(self) -> int:
        """The number of views that are sampled jointly; 1 if views are independent.

        Samplers never split a group of so many consecutive views over two calls of `draw`.
        """
        return 1

    @staticmethod
    def check_image_size(config: BaseModel, image_size: int) -> None:
        """Raise ValueError with a remedy if a model of this config cannot sample images of that size."""

    @classmethod
    def fit_to_data(cls, config: BaseModel, facts: DataFacts) -> BaseModel:
        """The config with numbers that only the training data know, which it leaves open.

        Called once for a run, before construction; the result is what config.json and checkpoints hold.
        Raises ValueError where the data do not suit the config.
        """
        return config

    @abstractmethod
    def loss(self, batch: SceneBatch, *, progress: float) -> dict[str, Tensor]:
        """Compute weighted scalar terms, means over the scenes of the batch; their sum is minimised.

        `progress` is the fraction of updates done, 0 to 1. The result for a batch is the mean of the results
        for its scenes. Every trained parameter gets a gradient at any progress.
        """

    @abstractmethod
    def encode(self, source: Views) -> Applicable:
        """Encode the source views once for any number of calls to `draw`.

        All its tensors have leading axes b and s, and views are encoded independently: encodings concatenated
        along s by `data.scenes.batch.concatenate` are the encoding of all views.
        """

    def read_targets(self, driving: Views) -> Targets:
        """Read the targets [b, v] for `draw` from the views of a video.

        By default its cameras. A family may estimate poses from the frames; they are relative to the first
        view, which corresponds to the first source view of the scene.
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
        """Sample views of an encoded scene from `cameras` [b, t], at the size of its source photos.

        A view depends on its own seed, its scene and, for joint sampling, its group: never on the batch.
        Denoising models start from `init_images` in [-1, 1], if given, plus noise of level
        `options.sigma_max`.
        """

    def options_of(self, options: SampleOptions, scene_id: str) -> SampleOptions:
        """The options by which a scene of the data is drawn; the same by default.

        Raises ValueError where a model draws only scenes that it has learned, and has not learned this one.
        """
        return options

    def sample(
        self,
        source: Views,
        cameras: Targets,
        seeds: Int[Tensor, "b t"],
        options: SampleOptions,
        *,
        callback: SampleCallback | None = None,
    ) -> Prediction:
        """Sample views from `cameras` [b, t], at the size of the source photos: `encode`, then `draw`."""
        return self.draw(self.encode(source), cameras, seeds, options, callback=callback)

    def diagnose(self, scene: Applicable, target: Views, seeds: Int[Tensor, "b t"]) -> dict[str, float]:
        """Compute diagnostics on an encoded held-out scene and its true views.

        Values from 0 to 1 by flat names such as "health/opacity_object", only for parts being trained;
        models/training/sanity_checks.py has the thresholds. Empty by default. Gradients are off.
        """
        return {}

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The parts with separate learning rates, which together contain every trained parameter once."""

    def reference_modules(self) -> dict[str, nn.Module]:
        """Frozen modules kept by reference: never saved, averaged or counted, and in no part."""
        return {}

    def networks(self) -> tuple[nn.Module, ...]:
        """The modules worth compiling; none by default."""
        return ()

    def adapt(self, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Adapt weights of a related model; also return a message for each change. Unchanged by default."""
        return weights, []

    def scheduled(self, progress: float) -> dict[str, float]:
        """Return the current values of schedules in this config, for the log, by keys such as
        "schedule/noise_mean". Empty by default.
        """
        return {}

    def forward(self, batch: SceneBatch, progress: float) -> dict[str, Tensor]:
        """Call `loss`; data-parallel wrappers need this name."""
        return self.loss(batch, progress=progress)


def surface_depth(
    depth: Float[Tensor, "*batch 1 h w"], opacity: Float[Tensor, "*batch 1 h w"], cameras: Cameras
) -> Float[Tensor, "*batch h w"]:
    """Return surface depth, 0 where less than half opaque, of a `Prediction` from `cameras` [*batch].

    A prediction's depth is composited over the far plane; that contribution is removed here.
    """
    far = cameras.far[..., None, None]
    depth, opacity = depth.squeeze(-3), opacity.squeeze(-3)
    behind = (1 - opacity) * far
    return torch.where(opacity >= OPAQUE, (depth - behind) / opacity.clamp_min(OPAQUE), 0.0).clamp_min(0)


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return parameters by name, without those of `reference_modules`."""
    prefixes = _reference_prefixes(model)
    return {name: value for name, value in model.named_parameters() if not name.startswith(prefixes)}


def own_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict without `reference_modules`, as in a checkpoint."""
    prefixes = _reference_prefixes(model)
    return {name: value for name, value in model.state_dict().items() if not name.startswith(prefixes)}


def _reference_prefixes(model: nn.Module) -> tuple[str, ...]:
    references = model.reference_modules().values() if isinstance(model, NVSModel) else ()
    return tuple(f"{name}." for name, module in model.named_modules() if module in list(references))
