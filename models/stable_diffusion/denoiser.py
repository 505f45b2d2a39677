"""A Stable Diffusion U-Net and its ControlNet as a denoiser in EDM's variables, and what guides it.

Axes: n views, c channels of latents, f of the condition, l tokens of the text, w width of the text's states.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffusion.samplers import Denoise
from diffusion.vp_schedule import gamma_from_sigma, noise_from_velocity
from models.stable_diffusion.control import Adapter
from models.stable_diffusion.noise_table import NoiseTable

PredictionType = Literal["epsilon", "v_prediction"]
Guidance = Literal["none", "drop_control", "text_only", "class_null", "three_way"]
CONDITIONED, UNCONDITIONAL = 0, 1  # classes of the ControlNet


@dataclass(frozen=True)
class Condition:
    """What the network sees beside noisy latents of n views; without `features` there is no control."""

    text: Float[Tensor, "n l w"]
    features: Float[Tensor, "n f h w2"] | None = (
        None  # as large as the picture; the first three are RGB, 0 to 1
    )
    labels: Int[Tensor, "n"] | None = None  # CONDITIONED or UNCONDITIONAL
    photo: Float[Tensor, "n c y x"] | None = None  # latents of a source photo, for a ControlNet that sees it


class LatentDenoiser(nn.Module):
    """E[clean | noisy] of latents, by a U-Net and a ControlNet.

    `num_views` views of a scene that are adjacent in the batch look at each other; this needs
    `attention.attend_jointly` of both networks where it is not 1.
    """

    def __init__(
        self, unet: nn.Module, control: nn.Module, table: NoiseTable, prediction: PredictionType = "epsilon"
    ):
        super().__init__()
        self.unet, self.control = unet, control
        self.table, self.prediction = table, prediction

    def predict(
        self,
        noisy: Float[Tensor, "n c h w"],
        time: Tensor,
        condition: Condition,
        *,
        num_views: int = 1,
        scale: float = 1.0,
    ) -> Float[Tensor, "n c h w"]:
        """What the U-Net predicts, noise or velocity, of DDPM's noisy latents at times [n], whole or not."""
        joint = {"num_views": num_views} if num_views > 1 else None
        residuals = self._residuals(noisy, time, condition, joint, scale)
        return self.unet(noisy, time, condition.text, cross_attention_kwargs=joint, **residuals).sample

    def _residuals(
        self, noisy: Tensor, time: Tensor, condition: Condition, joint: dict[str, int] | None, scale: float
    ) -> dict[str, Tensor | list[Tensor]]:
        """What the control adds to the U-Net's features, by the U-Net's arguments."""
        if condition.features is None:
            return {}
        if isinstance(self.control, Adapter):
            added = self.control(condition.features, condition.labels == CONDITIONED, scale)
            return {"down_intrablock_additional_residuals": added}
        if condition.photo is not None:
            seen = (condition.labels == CONDITIONED)[:, None, None, None] * condition.photo
            noisy = torch.cat([noisy, seen.to(noisy)], dim=1)
        down, mid = self.control(
            noisy,
            time,
            encoder_hidden_states=condition.text,
            controlnet_cond=condition.features,
            class_labels=condition.labels,
            conditioning_scale=scale,
            cross_attention_kwargs=joint,
            return_dict=False,
        )
        # Without a mid residual, diffusers takes the others for those of a T2I-Adapter.
        return {"down_block_additional_residuals": list(down), "mid_block_additional_residual": mid}

    def denoise(
        self,
        noisy: Float[Tensor, "n c h w"],
        sigma: Float[Tensor, "n"],
        condition: Condition,
        *,
        num_views: int = 1,
    ) -> Float[Tensor, "n c h w"]:
        """E[clean | clean + sigma noise]."""
        level = sigma.to(noisy)
        gamma = gamma_from_sigma(level)
        scaled = noisy * gamma.sqrt()[:, None, None, None]
        predicted = self.predict(scaled, self.table.time_of(level), condition, num_views=num_views)
        if self.prediction == "v_prediction":
            predicted = noise_from_velocity(predicted, scaled, gamma)
        return noisy - level[:, None, None, None] * predicted


def guidance_terms(
    guidance: Guidance,
    condition: Condition,
    null_text: Float[Tensor, "n l w"],
    noise_features: Float[Tensor, "n f h w2"] | None,
    *,
    weight: float,
    second_weight: float = 1.0,
) -> list[tuple[float, Condition]]:
    """Conditions and the weights of what is predicted under them, which sum to 1.

    `none`: the condition alone. `drop_control`: away from no control and no text. `text_only`: away from no
    text, in both networks. `class_null`: away from the class and features of unconditional samples.
    `three_way`: `second_weight` of the condition, away from these and from no control and no text.
    """
    null = Condition(null_text)
    without = torch.full_like(condition.labels, UNCONDITIONAL)
    noise = replace(condition, features=noise_features, labels=without)
    no_text = replace(condition, text=null_text)
    terms = {
        "none": [(1.0, condition)],
        "drop_control": [(weight, condition), (1 - weight, null)],
        "text_only": [(weight, condition), (1 - weight, no_text)],
        "class_null": [(weight, condition), (1 - weight, noise)],
        "three_way": [(second_weight, condition), (weight - second_weight, noise), (1 - weight, null)],
    }[guidance]
    return [(share, term) for share, term in terms if share != 0]


def guided_denoise(
    denoiser: LatentDenoiser, terms: Sequence[tuple[float, Condition]], *, num_views: int = 1
) -> Denoise:
    """The weighted sum over the terms. Each is evaluated by itself, so that groups of views stay whole."""

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.expand(len(noisy))
        return sum(w * denoiser.denoise(noisy, level, term, num_views=num_views) for w, term in terms)

    return denoise


def with_context(
    denoise: Denoise, context: Float[Tensor, "k c h w"], noise, *, num_scenes: int = 1
) -> Denoise:
    """A denoiser of new views beside finished ones, which come first in every scene.

    Before every evaluation, the finished latents are put under fresh noise of the current level:
    `noise(call)` [k, c, h, w], standard normal; so they never drift. Only the new views are returned.
    """
    calls = 0

    def denoise_new(noisy: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls
        level = sigma.expand(len(noisy)).unflatten(0, (num_scenes, -1))
        finished = context.unflatten(0, (num_scenes, -1)).to(noisy)
        fresh = noise(calls).to(noisy).unflatten(0, (num_scenes, -1))
        calls += 1
        size = finished.shape[1]
        under_noise = finished + level[:, :1, None, None, None] * fresh
        both = torch.cat([under_noise, noisy.unflatten(0, (num_scenes, -1))], dim=1)
        levels = torch.cat([level[:, :1].expand(-1, size), level], dim=1)
        return (
            denoise(both.flatten(0, 1), levels.flatten())
            .unflatten(0, (num_scenes, -1))[:, size:]
            .flatten(0, 1)
        )

    return denoise_new
