"""ViewNeTI (Burgess et al. 2023, arXiv:2309.07986): cameras as words of a frozen Stable Diffusion.

An object mapper for each scene, and a view mapper for all of them, turn time, layer and camera into words of
a prompt. Nothing else learns. Axes: b scene, t target view, n = b t, k layers, c numbers of a camera, h, w.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor, nn

from data.cameras.pinhole import Cameras
from data.scenes.batch import SceneBatch, Views
from data.scenes.facts import DataFacts
from data.seeds import normal, uniform, view_seeds
from diffusion.samplers import SampleOptions
from diffusion.vp_schedule import add_noise
from models.base import NVSModel, Prediction, SampleCallback
from models.device import to_device_of
from models.stable_diffusion import latents
from models.stable_diffusion.base import Base
from models.stable_diffusion.layered_text import LayeredText, predict
from models.stable_diffusion.losses import prediction_target
from models.viewneti.config import ViewNeTIConfig, ViewNeTISampleOptions
from models.viewneti.contexts import Learned, encode_by_layers, learn_word
from models.viewneti.denoising import denoise, latent_size, whole_times, with_guidance
from models.viewneti.drawing import draw_latents
from models.viewneti.frozen_base import FrozenBase, measured, modules
from models.viewneti.mapper import Mapper
from models.viewneti.prompts import OBJECT, Prompt, check_prompt
from models.viewneti.reference_words import empty_text, prompt_of, reference_lengths
from models.viewneti.view_mappers import load_view_mapper, read_view_mapper

FITTED_OBJECTS = 64  # of the training data, by which the ranges of cameras are found
VIEW_HIDDEN = 64


class ViewNeTI(NVSModel):
    """Mappers of objects and views, beside a frozen base."""

    Config = ViewNeTIConfig
    SampleConfig = ViewNeTISampleOptions
    options = ViewNeTISampleOptions()
    same_noise = True
    training_settings = ("model.dropout", "model.prompts", "model.checkpoint")
    resource_settings = ("model.checkpoint",)

    def __init__(self, config: ViewNeTIConfig, *, init_weights: bool = True):
        super().__init__()
        self.config, base = config, config.base
        assert base.width, "the config is not fitted to its base"
        assert base.layers, "the config is not fitted to its base"
        self._frozen = FrozenBase(base, checkpoint=config.checkpoint)
        lengths = (
            reference_lengths(self._frozen.on(torch.device("cpu")), config)
            if init_weights
            else {"object": 1.0, "view": 1.0}
        )

        # Mappers.
        inputs = (config.time_sigma, config.layer_sigma)
        norm = lengths["object"] if config.object.normalise else None
        sizes = {"hidden": config.object.hidden, "width": base.width, "norm": norm}
        self.objects = nn.ModuleList(Mapper(inputs, **sizes) for _ in range(config.num_scenes))
        if config.has_views:
            norm = lengths["view"] if config.view.normalise else None
            sigmas = (*inputs, *[config.view.camera_sigma] * config.camera.size)
            self.view = Mapper(sigmas, hidden=VIEW_HIDDEN, width=base.width, norm=norm)
            self.view.requires_grad_(config.learns_views)

        # A view mapper of another run.
        if init_weights and config.view_mapper is not None:
            found = read_view_mapper(config.view_mapper)
            load_view_mapper(self.view, found, base.width, base.fingerprint)
            self.notices = (f"view mapper of {found.path}",)

    @property
    def requires(self) -> frozenset[str]:
        """Cameras, unless there are no views to tell apart."""
        return frozenset({"cameras"} if self.config.has_views else ())

    @staticmethod
    def check_image_size(config: BaseModel, image_size: int) -> None:
        """Latents must have whole pixels; eight image pixels are one, in every Stable Diffusion."""
        if image_size % 8:
            raise ValueError(f"data.image_size={image_size} is no multiple of 8, as latents need; change it")

    @classmethod
    def fit_to_data(cls, config: ViewNeTIConfig, facts: DataFacts) -> ViewNeTIConfig:
        """With the sizes of the base, the scenes, and the ranges of the cameras' numbers.

        Raises ValueError where a mode for one scene is given several, or base and mappers do not suit.
        """
        known, names = {"base": measured(config.base)}, tuple(facts.objects.ids)
        if config.mode != "multi_scene" and len(names) != 1:
            root = facts.objects.config.root
            raise ValueError(
                f"data.root={root}: has {len(names)} training objects, but model.mode {config.mode} learns "
                "one; give a data set of one object, or mode multi_scene"
            )
        known["scenes"] = config.scenes or names
        if config.mode == "multi_scene" and set(names) - set(known["scenes"]):
            missing = min(set(names) - set(known["scenes"]))
            raise ValueError(f"model.scenes: lacks {missing}, an object of the training data; add it")
        if config.has_views:
            camera = config.camera
            if config.view_mapper is not None:
                camera = read_view_mapper(config.view_mapper).camera(camera)
            if not camera.fitted:
                calibrated = facts.calibrated_cameras()
                camera = camera.fit([calibrated] if calibrated else facts.some_cameras(FITTED_OBJECTS))
            known["camera"] = camera
        return config.model_copy(update=known)

    def parts(self) -> dict[str, nn.Module]:
        """The mappers of objects, and that of views."""
        return {"objects": self.objects} | ({"view": self.view} if self.config.has_views else {})

    def reference_modules(self) -> dict[str, nn.Module]:
        """The networks of the base, once they are loaded."""
        base = self._frozen.loaded
        return {} if base is None else modules(base)

    def loss(self, batch: SceneBatch, *, progress: float) -> dict[str, Tensor]:
        """Mean squared error of the base's prediction for target views, at random times."""
        base, views = self._frozen.on(self.device), batch.target
        seeds = view_seeds(batch.seeds, views.images.shape[1])

        # Noisy latents.
        with torch.no_grad():
            images = views.images.flatten(0, 1)
            size = latent_size(base, images.shape[-2:])
            clean = latents.encode(
                base.vae, images, to_device_of(images, normal(seeds, size, stream="latents"))
            )
        time = (uniform(seeds, (), stream="time") * (base.table.last_time + 1)).long()
        gamma = to_device_of(clean, base.table.gammas[time])
        noise = to_device_of(clean, normal(seeds, size, stream="noise"))
        noisy, time = add_noise(clean, noise, gamma), to_device_of(clean, time)

        # Text.
        texts = self.config.texts
        drawn = (uniform(seeds, (), stream="prompt") * len(texts)).long().tolist()
        prompts = [prompt_of(base, self.config, texts[number]) for number in drawn]
        scenes = [self._scene_number(name) for name in batch.scene_ids for _ in range(views.images.shape[1])]
        cameras = self._camera_numbers(views.cameras)
        text = self._text(base, prompts, time, cameras, scenes, seeds=seeds)

        predicted = predict(base.unet, noisy, time, text)
        error = (predicted - prediction_target(clean, noise, gamma, base.prediction)).square().mean()
        if len(self.objects) > 1:  # objects that are not in the batch have gradients, too: zeros
            error = error + 0 * sum(parameter.sum() for parameter in self.objects.parameters())
        return {"diffusion": error}

    def options_of(self, options: SampleOptions, scene_id: str) -> SampleOptions:
        """With the scene that the mapper is taken of, where there are several and none is chosen.

        Raises ValueError where it was not learned, or the prompt cannot be used.
        """
        if options.prompt is not None:
            check_prompt(options.prompt, view=self.config.has_views, objects=False)
            prompt_of(self._frozen.on(self.device), self.config, options.prompt)
        if OBJECT not in (options.prompt or self.config.texts[0]):
            return options
        chosen = options.scene or scene_id
        self._scene_number(chosen)
        return options.model_copy(update={"scene": chosen})

    def encode(self, source: Views) -> Views:
        """The photos, of which only the size is used: the object is in the mapper."""
        return replace(source, geometry=None)

    @torch.no_grad()
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
        """Draw the trained object, or what a prompt says, from cameras.

        Raises ValueError where the options name no scene of the model, or the prompt has other slots.
        """
        base, text = self._frozen.on(self.device), getattr(options, "prompt", None) or self.config.texts[0]
        check_prompt(text, view=self.config.has_views, objects=False)
        prompt, name = prompt_of(base, self.config, text), getattr(options, "scene", None)
        scenes = [self._scene_number(name or (self.config.scenes or ("",))[0])] * seeds.numel()
        numbers = self._camera_numbers(cameras)
        empty = empty_text(base, self.config, seeds.numel())

        def conditional(noisy: Tensor, sigma: Tensor) -> Tensor:
            time = base.table.time_of(sigma.float())
            words = self._text(base, [prompt] * len(noisy), whole_times(time).to(noisy), numbers, scenes)
            return denoise(base, noisy, sigma, words)

        def unconditional(noisy: Tensor, sigma: Tensor) -> Tensor:
            return denoise(base, noisy, sigma, empty)

        def decoded(clean: Tensor) -> Tensor:
            return latents.decode(base.vae, clean.to(empty.keys)).unflatten(0, seeds.shape)

        init = None if init_images is None else latents.encode(base.vae, init_images.flatten(0, 1))
        found = draw_latents(
            with_guidance(conditional, unconditional, options),
            latent_size(base, scene.images.shape[-2:]),
            seeds.flatten().cpu(),
            options,
            base.table,
            init=init,
            callback=callback and (lambda step, _, clean: callback(step, decoded(clean))),
            device=self.device,
        )
        return Prediction(decoded(found))

    def _text(
        self,
        base: Base,
        prompts: list[Prompt],
        time: Tensor,
        cameras: Float[Tensor, "n c"] | None,
        scenes: list[int],
        *,
        seeds: Int[Tensor, "n"] | None = None,
    ) -> LayeredText:
        """The prompts with learned words, for all layers; `seeds` draw the dropout of the training.

        All prompts have the same slots.
        """
        ids = torch.tensor([prompt.ids for prompt in prompts], device=self.device)
        common, learned = {"time": time.float(), "num_layers": self.config.base.layers}, []
        if prompts[0].object_at is not None:
            at = torch.tensor([prompt.object_at for prompt in prompts], device=self.device)
            learned.append(self._object_words(at, scenes, seeds, common))
        if prompts[0].view_at is not None:
            at = torch.tensor([prompt.view_at for prompt in prompts], device=self.device)
            ways = {"alpha": self.config.view.alpha, "unconstrained": self.config.view.unconstrained}
            kept = self._kept(seeds, self.view, "view dropout") if self.config.learns_views else None
            learned.append(learn_word(self.view, at, camera=cameras, kept=kept, **ways, **common))
        return encode_by_layers(base.text_encoder, ids, learned, num_layers=self.config.base.layers)

    def _object_words(self, at: Tensor, scenes: list[int], seeds: Tensor | None, common: dict) -> Learned:
        """Words of each text's own scene."""
        ways = {"alpha": self.config.object.alpha, "unconstrained": self.config.object.unconstrained}
        kept = self._kept(seeds, self.objects[0], "object dropout")
        layers, time = common["num_layers"], common["time"]
        numbers = torch.tensor(scenes, device=self.device)
        words = at.new_zeros(2, layers, len(at), self.config.base.width, dtype=torch.float32)
        for scene in sorted(set(scenes)):
            own = (numbers == scene).nonzero()[:, 0]
            found = learn_word(
                self.objects[scene],
                at[own],
                time[own],
                num_layers=layers,
                kept=None if kept is None else kept[:, own],
                **ways,
            )
            both = torch.stack([found.word, found.bypass]).unflatten(1, (layers, -1))
            words = words.index_add(2, own, both.float())
        word, bypass = words.flatten(1, 2)
        return Learned(at.repeat(layers), word, bypass, **ways)

    def _kept(self, seeds: Tensor | None, mapper: Mapper, stream: str) -> Int[Tensor, "k n"] | None:
        """How many hidden features are used of each text's, by chance; None: all."""
        if seeds is None or self.config.dropout == 0 or not self.training:
            return None
        layers = self.config.base.layers
        chance, share = uniform(seeds, (2, layers), stream=stream).permute(1, 2, 0)
        count = torch.where(chance < self.config.dropout, (share * mapper.hidden).long(), mapper.hidden)
        return to_device_of(mapper.frequencies, count)

    def _camera_numbers(self, cameras: Cameras | None) -> Float[Tensor, "n c"] | None:
        if not self.config.has_views:
            return None
        assert cameras is not None, "views need cameras"
        return self.config.camera(cameras).flatten(0, 1)

    def _scene_number(self, name: str) -> int:
        """Of the mapper of a scene. Raises ValueError where there is none."""
        if self.config.scenes is None:
            return 0
        if name not in self.config.scenes:
            known = ", ".join(self.config.scenes[:5]) + ", ..." * (len(self.config.scenes) > 5)
            raise ValueError(
                f"scene {name}: the model draws only what it has learned; choose one of its scenes ({known}) "
                "by --scene, or --split train"
            )
        return self.config.scenes.index(name) if len(self.objects) > 1 else 0
