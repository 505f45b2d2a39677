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
from data.scenes.batch import SceneBatch, Views, concatenate
from data.scenes.facts import DataFacts
from data.seeds import derived_seed
from diffusion.samplers import SampleOptions
from models.base import Prediction, SampleCallback
from models.stable_diffusion import latents
from models.stable_diffusion.attention import attend_jointly
from models.stable_diffusion.base import Base
from models.stable_diffusion.control import (
    Adapter,
    condition_widths,
    control_network,
    copy_way_down,
    ignore_condition_beyond,
    see_beside,
    widen_to,
)
from models.stable_diffusion.denoiser import LatentDenoiser
from models.stable_diffusion.drawing import Finished, Texts, draw_film, draw_group
from models.stable_diffusion.frozen_base import FrozenBase, modules, with_fingerprint
from models.stable_diffusion.losses import RGB, blurred, diffusion_loss
from models.stable_diffusion.planner import Step
from models.stable_diffusion.settings import ControlledConfig, ControlledSampleOptions, as_options
from models.volumes.volume_model import VolumeModel
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
        "model.condition",
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
        channels, is_adapter = config.renderer.latent_channels, control.t2i_adapter
        if is_adapter:
            self.control = Adapter(unet, channels=channels, factor=latents.factor(vae))
        else:
            widths = condition_widths(control.widths, unet, vae, config.base.path)
            ways = {"widths": widths, "mid_residual": control.mid_residual}
            self.control = control_network(unet, channels=channels, copy=False, **ways)
        if init_weights and not is_adapter:
            copy_way_down(self.control, self._frozen.on(torch.device("cpu")).unet)
        if control.photo:
            see_beside(self.control, unet.config.in_channels)
        if init_weights and config.condition == "blurred_target":
            ignore_condition_beyond(self.control, RGB)
        if self.joint and not is_adapter:
            attend_jointly(self.control)
        if control.checkpointing and not is_adapter:
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
        weights = self.config.loss.weights_at(progress)
        if self.config.condition == "blurred_target":
            views = batch.target
            features = blurred(views.images, batch.seeds, self.config.renderer.latent_channels)
            return {
                "diffusion": weights["diffusion"] * self._diffusion_loss(batch, views, features, progress)
            }
        seen, terms = self.render_batch(batch, progress=progress), {}
        if "diffusion" in weights:
            loss = self._diffusion_loss(batch, seen.views, seen.latent, progress)
            terms["diffusion"] = weights["diffusion"] * loss
        return terms | self.volume_losses(seen, progress=progress)

    def encode(self, source: Views) -> FrustumVolume:
        """Encode the source photos as volumes and, if views are drawn beside them, as latents (the means of
        the VAE)."""
        volume = super().encode(source)
        if not (self.joint or self.config.control.photo):
            return volume
        vae = self._frozen.on(self.device).vae
        photos = latents.encode(vae, source.images.flatten(0, 1)).unflatten(0, source.valid.shape)
        return latents.with_photos(volume, photos, source.cameras, source.valid)

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
        seen = self.config.control.photo
        photo = latents.first_photo(scene.photos, scene.photo_valid) if seen else None
        settings = {"joint": self.joint, "photo": photo, "size": _latent_size(base, size), "options": options}
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
        """Leave out another denoiser (of a GeNVS, encoder and renderer are taken over), and let a ControlNet
        on fewer channels ignore the new ones."""
        kept = {name: value for name, value in weights.items() if not name.startswith("denoiser.")}
        notes = [] if len(kept) == len(weights) else ["its denoiser is left out; this model has a ControlNet"]
        prefix = "control."
        theirs = {name.removeprefix(prefix): kept[name] for name in kept if name.startswith(prefix)}
        widened, changes = widen_to(theirs, self.control)
        return kept | {prefix + name: value for name, value in widened.items()}, notes + changes

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

    def _diffusion_loss(
        self, batch: SceneBatch, views: Views, features: Float[Tensor, "b v f h w"], progress: float
    ) -> Float[Tensor, ""]:
        """Weighted squared error of what the base predicts of the views' noisy latents."""
        base, photo, source = self._frozen.on(self.device), None, batch.source
        if self.config.control.photo:
            with torch.no_grad():
                photo = latents.encode(base.vae, latents.first_photo(source.images, source.valid))
        return diffusion_loss(
            self._denoiser(base),
            base.vae,
            self.config,
            self._frozen.text(self.config.prompt, self.device),
            views.images,
            features,
            batch.seeds,
            photo,
            joint=self.joint,
            progress=progress,
        )

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
    factor = latents.factor(base.vae)
    height, width = size
    return base.unet.config.in_channels, height // factor, width // factor


def _decoded(base: Base, drawn: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t 3 h2 w2"]:
    return latents.decode(base.vae, drawn.flatten(0, 1)).unflatten(0, drawn.shape[:2])
