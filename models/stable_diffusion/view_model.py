"""Base of families that denoise views in the latents of a frozen Stable Diffusion, by a ControlNet on
rendered features.

Source photos are encoded as feature volumes, these are rendered at the target cameras, and the latent images
condition the ControlNet. Axes: b scene, k finished view, t target view, v view, n = b v, f feature, c channel
of latents, h, w.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor, nn

from data.cameras.pinhole import Cameras
from data.scenes.batch import SceneBatch, concatenate
from data.scenes.facts import DataFacts
from data.schedule import value_at
from data.seeds import derived_seed, normal, uniform, view_seeds
from diffusion.samplers import SampleOptions
from diffusion.vp_schedule import add_noise
from models.base import Prediction, SampleCallback
from models.device import to_device_of
from models.stable_diffusion import latents
from models.stable_diffusion.attention import attend_jointly
from models.stable_diffusion.base import Base
from models.stable_diffusion.control import control_network, copy_way_down
from models.stable_diffusion.denoiser import Condition, LatentDenoiser
from models.stable_diffusion.drawing import Finished, Texts, draw_film, draw_group, noise_features
from models.stable_diffusion.frozen_base import FrozenBase, modules, with_fingerprint
from models.stable_diffusion.losses import min_snr_weight, offset_noise, prediction_target, weighted_error
from models.stable_diffusion.planner import Step
from models.stable_diffusion.settings import ControlledConfig, ControlledSampleOptions, as_options
from models.volumes.volume_model import RenderedBatch, VolumeModel
from nerf.renderer import LatentImages, surfaces
from nerf.volume import FrustumVolume

RENDERED = 8  # views at once, however many there are
IMAGE_MULTIPLE = 8  # pixels of one latent of Stable Diffusion


class ControlledModel(VolumeModel):
    """Encoder, renderer and ControlNet, beside a frozen base. `joint`: views of a scene see each other."""

    joint: bool = False
    SampleConfig = ControlledSampleOptions
    options = ControlledSampleOptions()
    training_settings = (
        *VolumeModel.training_settings,
        "model.drop_condition_prob",
        "model.noise_offset",
        "model.snr_gamma",
    )
    resource_settings = (*VolumeModel.resource_settings, "model.control.checkpointing")

    def __init__(self, config: ControlledConfig, *, init_weights: bool = True):
        super().__init__(config, init_weights=init_weights)
        control = config.control
        self._frozen = FrozenBase(config.base, joint=self.joint, checkpointing=control.checkpointing)
        unet, vae = self._frozen.bare_networks()
        self.control = control_network(
            unet,
            channels=config.renderer.latent_channels,
            widths=_widths(config, unet, vae),
            mid_residual=control.mid_residual,
            copy=False,
        )
        if init_weights:
            copy_way_down(self.control, self._frozen.on(torch.device("cpu")).unet)
        if self.joint:
            attend_jointly(self.control)
        if control.checkpointing:
            self.control.enable_gradient_checkpointing()
        self.control.requires_grad_("diffusion" in config.loss.terms)

    @staticmethod
    def check_image_size(config: BaseModel, image_size: int) -> None:
        """Raise ValueError where latents would not be whole."""
        if image_size % IMAGE_MULTIPLE:
            raise ValueError(
                f"data.image_size {image_size} is no multiple of {IMAGE_MULTIPLE}, as the latents of "
                "model.base need; change it"
            )

    @classmethod
    def fit_to_data(cls, config: ControlledConfig, facts: DataFacts) -> ControlledConfig:
        """With the fingerprint of the base, by which another one is refused later."""
        return config.model_copy(update={"base": with_fingerprint(config.base)})

    def parts(self) -> dict[str, nn.Module]:
        """Encoder, renderer and ControlNet."""
        return super().parts() | {"control": self.control}

    def reference_modules(self) -> dict[str, nn.Module]:
        """The networks of the base, once they are loaded."""
        base = self._frozen.loaded
        return {} if base is None else modules(base)

    def networks(self) -> tuple[nn.Module, ...]:
        """The encoder's two networks and the ControlNet."""
        return *super().networks(), self.control

    def loss(self, batch: SceneBatch, *, progress: float) -> dict[str, Tensor]:
        """Compute the denoising loss of the views' latents, and colour and shape losses of the volume."""
        seen, weights = self.render_batch(batch, progress=progress), self.config.loss.weights_at(progress)
        terms = {}
        if "diffusion" in weights:
            terms["diffusion"] = weights["diffusion"] * self._diffusion_loss(batch, seen, progress)
        return terms | self.volume_losses(seen, progress=progress)

    def draw(
        self,
        scene: FrustumVolume,
        cameras: Cameras,
        seeds: Int[Tensor, "b t"],
        options: SampleOptions,
        *,
        init_images: Float[Tensor, "b t 3 h w"] | None = None,
        callback: SampleCallback | None = None,
    ) -> Prediction:
        """Render the volumes at the target cameras and sample views given the latent images."""
        base, options = self._frozen.on(self.device), as_options(options, self.SampleConfig)
        size, num, seeds = scene.features.shape[-2:], cameras.shape[1], seeds.cpu()

        # Render all views once, those of the photos first if they are looked at.
        photos, photo_cameras = self._photos(scene, seeds)
        num_photos = 0 if photo_cameras is None else photo_cameras.shape[1]
        placed, moved = self._in_frame(
            scene, cameras if photo_cameras is None else concatenate([photo_cameras, cameras], axis=1)
        )
        rendering = self._render_all(placed, moved)
        of_targets = _views_of(rendering, range(num_photos, num_photos + num))

        # Plan, and draw step by step.
        texts = Texts(*(self._frozen.text(text, self.device) for text in (self.config.prompt, "")))
        initial = None
        if init_images is not None:
            initial = latents.encode(base.vae, init_images.flatten(0, 1)).unflatten(0, seeds.shape)
        estimate = (2 * self.condition(of_targets, size)[:, :, :3] - 1) if callback else None
        settings = {"joint": self.joint, "size": _latent_size(base, size), "options": options}
        before = 0

        def draw_step(step: Step, finished: Finished | None) -> Tensor:
            nonlocal before
            own, first = list(step.new), before
            shown = (*(range(num_photos) if step.photos else ()), *_shifted(step, num_photos))
            features = self.condition(_views_of(rendering, shown), size)

            def report(index: int, clean: Tensor) -> None:
                estimate[:, own] = _decoded(base, clean)
                callback(first + index, estimate.clone())

            found = draw_group(
                self._denoiser(base),
                features,
                texts,
                seeds[:, own],
                finished=finished,
                initial=None if initial is None else initial[:, own],
                callback=report if callback else None,
                **settings,
            )
            before += options.steps
            return found

        drawn = draw_film(self._plan(num, num_photos, options), photos, seeds, draw_step)
        images = torch.cat([_decoded(base, part) for part in drawn.split(RENDERED, dim=1)], dim=1)
        targets = moved[:, num_photos:]
        preview = 2 * self.condition(of_targets, size)[:, :, :3] - 1
        return Prediction(images, preview, *surfaces(of_targets, targets, images.shape[-2:]))

    def diagnose(self, scene: FrustumVolume, target, seeds: Int[Tensor, "b t"]) -> dict[str, float]:
        """Compute diagnostics of the volumes, if their colours are supervised."""
        if {"rgb", "rgb_source"}.isdisjoint(self.config.loss.terms):
            return {}
        return super().diagnose(scene, target, seeds)

    def adapt(self, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Leave out another denoiser: of a GeNVS, encoder and renderer are taken over."""
        kept = {name: value for name, value in weights.items() if not name.startswith("denoiser.")}
        notes = [] if len(kept) == len(weights) else ["its denoiser is left out; this model has a ControlNet"]
        return kept, notes

    def _plan(self, num: int, num_photos: int, options: ControlledSampleOptions) -> Iterable[Step]:
        """Views that are independent are drawn together."""
        return [Step(tuple(range(num)), (), photos=False)]

    def _photos(
        self, scene: FrustumVolume, seeds: Int[Tensor, "b t"]
    ) -> tuple[Finished | None, Cameras | None]:
        """The source photos as finished views, and their cameras, where views are drawn beside them."""
        return None, None

    def _denoiser(self, base: Base) -> LatentDenoiser:
        return LatentDenoiser(base.unet, self.control, base.table, base.prediction)

    def _diffusion_loss(self, batch: SceneBatch, seen: RenderedBatch, progress: float) -> Float[Tensor, ""]:
        """Weighted squared error of what the base predicts of the views' noisy latents."""
        config, base = self.config, self._frozen.on(self.device)
        images, features = seen.views.images.flatten(0, 1), seen.latent.flatten(0, 1)
        num = seen.views.images.shape[1]
        seeds = view_seeds(batch.seeds, num)

        # Noisy latents, at one time for the views of a scene if they see each other.
        size = _latent_size(base, images.shape[-2:])
        with torch.no_grad():
            drawn = to_device_of(images, normal(seeds, size, stream="latents"))
            clean = latents.encode(base.vae, images, drawn)
        chance = uniform(batch.seeds if self.joint else seeds, (), stream="time")
        time = (chance * (base.table.last_time + 1)).long()
        time = time.repeat_interleave(num) if self.joint else time
        gamma = to_device_of(clean, base.table.gammas[time])
        noise = offset_noise(
            normal(seeds, size, stream="noise"),
            normal(seeds, (size[0], 1, 1), stream="noise offset"),
            config.noise_offset,
        )
        noise = to_device_of(clean, noise)

        # Some views are without condition.
        dropped = uniform(seeds, (), stream="drop condition") < value_at(config.drop_condition_prob, progress)
        dropped = to_device_of(clean, dropped)
        features = torch.where(dropped[:, None, None, None], noise_features(features, seeds), features)
        text = self._frozen.text(config.prompt, self.device).expand(len(clean), -1, -1)
        condition = Condition(text, features, dropped.long())

        noisy = add_noise(clean, noise, gamma)
        views = {"num_views": num if self.joint else 1}
        predicted = self._denoiser(base).predict(noisy, to_device_of(clean, time), condition, **views)
        target = prediction_target(clean, noise, gamma, base.prediction)
        weight = torch.ones_like(gamma)
        if config.snr_gamma is not None:
            weight = min_snr_weight(gamma, base.prediction, config.snr_gamma)
        return weighted_error(predicted.float(), target, weight)

    def _render_all(self, scene: FrustumVolume, cameras: Cameras) -> LatentImages:
        """Render any number of views, some at once."""
        starts = range(0, cameras.shape[1], RENDERED)
        parts = [self.renderer(scene, cameras[:, first : first + RENDERED]) for first in starts]
        names = ("latent", "depth", "opacity")
        return LatentImages(*(torch.cat([getattr(part, name) for part in parts], dim=1) for name in names))


def photo_seeds(seeds: Int[Tensor, "b t"], num: int) -> Int[Tensor, "b k"]:
    """A seed for each photo of a scene, by that of its first view."""
    names = [f"photo {number}" for number in range(num)]
    return torch.tensor([[derived_seed(row[0], name) for name in names] for row in seeds.tolist()])


def _shifted(step: Step, num_photos: int) -> tuple[int, ...]:
    return tuple(num_photos + view for view in (*step.finished, *step.new))


def _views_of(rendering: LatentImages, views: Iterable[int]) -> LatentImages:
    chosen = list(views)
    parts = (getattr(rendering, name)[:, chosen] for name in ("latent", "depth", "opacity"))
    return replace(rendering, **dict(zip(("latent", "depth", "opacity"), parts, strict=True)))


def _latent_size(base: Base, size: Iterable[int]) -> tuple[int, int, int]:
    """Channels, height and width of an image's latents."""
    factor = _factor(base.vae)
    height, width = size
    return base.unet.config.in_channels, height // factor, width // factor


def _factor(vae: nn.Module) -> int:
    """Pixels along one side of a latent."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def _widths(config: ControlledConfig, unet: nn.Module, vae: nn.Module) -> tuple[int, ...]:
    """Of the condition's encoder, which must halve a picture as often as the VAE. Raises ValueError."""
    needed, widths = len(vae.config.block_out_channels), config.control.widths
    levels = tuple(unet.config.block_out_channels)
    if widths is None:
        return tuple(levels[min(number, len(levels) - 1)] for number in range(needed))
    if len(widths) != needed:
        raise ValueError(
            f"model.control.widths: has {len(widths)} numbers, but the VAE of {config.base.path} halves "
            f"pictures {needed - 1} times; give {needed}, or null"
        )
    return widths


def _decoded(base: Base, drawn: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t 3 h2 w2"]:
    return latents.decode(base.vae, drawn.flatten(0, 1)).unflatten(0, drawn.shape[:2])
