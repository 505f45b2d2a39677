"""Views of a scene denoised together by a frozen Stable Diffusion and a ControlNet on rendered features.

In every self-attention layer the views of a scene see each other, and finished views beside them, which are
put under noise of the current level again at every step. Axes: b scene, k photo, t target view, a channel of
latents, y and x their rows and columns.
"""

from collections.abc import Iterable
from typing import Literal

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from data.cameras.pinhole import Cameras
from data.scenes.batch import concatenate
from diffusion.samplers import SampleOptions
from models.base import Prediction, SampleCallback
from models.stable_diffusion.drawing import Finished
from models.stable_diffusion.latents import PhotoVolume, with_photos
from models.stable_diffusion.planner import Step, steps_of
from models.stable_diffusion.settings import ControlledConfig, JointSampleOptions
from models.stable_diffusion.view_model import ControlledModel, photo_seeds

LONGEST_FILM = 10_000  # views


class MultiviewConfig(ControlledConfig, frozen=True):
    """Volumes, base and ControlNet."""

    family: Literal["multiview"] = "multiview"
    source_among_views: bool = Field(
        True, description="denoise the first source view of a scene together with the targets in training"
    )


class Multiview(ControlledModel):
    """Views are drawn together, as a plan says."""

    Config = MultiviewConfig
    joint = True
    SampleConfig = JointSampleOptions
    options = JointSampleOptions()
    training_settings = (*ControlledModel.training_settings, "model.source_among_views")

    @property
    def max_joint_views(self) -> int:
        """All of them: the plan divides a film, not the caller."""
        return LONGEST_FILM

    @property
    def renders_source(self) -> bool:
        """The first source is among the views that are denoised."""
        return self.config.source_among_views or super().renders_source

    def draw(
        self,
        scene: PhotoVolume,
        cameras: Cameras,
        seeds: Int[Tensor, "b t"],
        options: SampleOptions,
        *,
        init_images: Float[Tensor, "b t 3 h w"] | None = None,
        callback: SampleCallback | None = None,
    ) -> Prediction:
        """Draw views as `options.plan` says. Raises ValueError where too many would see each other."""
        if bool(scene.photo_valid.all()):
            ways = {"init_images": init_images, "callback": callback}
            return super().draw(scene, cameras, seeds, options, **ways)

        # Padding cannot be looked at, so scenes with unequally many photos are drawn one by one.
        drawn = []
        for b in range(len(seeds)):
            own = slice(b, b + 1)
            one = scene.apply(lambda tensor, own=own: tensor[own])
            there = one.photo_valid[0]
            photo_cameras = one.photo_cameras.apply(lambda tensor, there=there: tensor[:, there])
            one = with_photos(one, one.photos[:, there], photo_cameras, one.photo_valid[:, there])
            ways = {"init_images": None if init_images is None else init_images[own]}
            ways["callback"] = callback if len(seeds) == 1 else None
            drawn.append(super().draw(one, cameras[own], seeds[own], options, **ways))
        return concatenate(drawn, axis=0)

    def _plan(self, num: int, num_photos: int, options: JointSampleOptions) -> Iterable[Step]:
        steps = steps_of(
            options.plan,
            num,
            chunk=options.chunk,
            neighbours=options.chunk_context,
            unconditional=options.unconditional,
        )
        steps = list(steps)
        most = max(len(step.new) + len(step.finished) + num_photos * step.photos for step in steps)
        if most > options.most_views:
            raise ValueError(
                f"--plan {options.plan}: {most} views would see each other, more than sample.most_views "
                f"{options.most_views}; take --plan chunked and a smaller --chunk, or raise that if memory "
                "suffices"
            )
        return steps

    def _photos(
        self, scene: PhotoVolume, seeds: Int[Tensor, "b t"]
    ) -> tuple[Finished | None, Cameras | None]:
        seen = Finished(scene.photos, photo_seeds(seeds, scene.photos.shape[1]))
        return seen, scene.photo_cameras
