"""Measure a base: its reconstruction floor, and whether its text means something.

Axes: n images, b a batch, h and w the image.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data.shapes.captions import AZIMUTH_WORDS, caption
from models.stable_diffusion.base import Base, encode_text, load_base
from models.stable_diffusion.latents import decode, encode
from scripts.common.progress import progress_bar
from scripts.make_base.cars import CaptionedImages
from scripts.make_base.sheet import write_sheet

if TYPE_CHECKING:
    from diffusers import DDIMScheduler

SAMPLED = (
    ("red", "sedan"), ("blue", "pickup"), ("yellow", "taxi"), ("green", "hatchback"), ("white", "minibus"),
    ("black", "suv"),
)  # fmt: skip
ELEVATION = "medium"
SHEET = "contact_sheet.png"
GUIDANCE = 2.0
LEVELS = (200, 500, 800)  # times at which captions are compared


def measure(
    folder: Path,
    cars: CaptionedImages,
    held_out: CaptionedImages,
    sample_steps: int,
    check: Callable[[], object],
) -> dict[str, object]:
    """Figures of the base in `folder`; draws samples, and writes the contact sheet there."""
    base, scheduler = load_base(str(folder)), _scheduler(folder)
    scheduler.set_timesteps(sample_steps)
    images = held_out.images(torch.arange(len(held_out)))
    with torch.no_grad():
        reconstructed = torch.cat([decode(base.vae, encode(base.vae, part)) for part in images.split(64)])
    scores = psnr_db(reconstructed, images)
    samples = _samples(base, scheduler, images.shape[-1], check)
    figures = {
        "reconstruction_psnr_db": float(scores.mean()),
        "reconstruction_psnr_standard_error_db": float(scores.std(unbiased=False) / len(scores) ** 0.5),
        "scaling_factor": base.vae.config.scaling_factor,
        "held_out_images": len(held_out),
        "parameters": {
            part: sum(parameter.numel() for parameter in getattr(base, part).parameters())
            for part in ("vae", "unet", "text_encoder")
        },
        "velocity_error": caption_errors(base, scheduler, held_out),
        "samples": _sample_figures(samples, cars),
    }
    write_sheet(
        folder / SHEET,
        images[:: max(1, len(images) // 8)][:8],
        reconstructed[:: max(1, len(images) // 8)][:8],
        {f"{colour} {style}": row for (colour, style), row in zip(SAMPLED, samples, strict=True)},
    )
    return figures


def psnr_db(ours: Float[Tensor, "n c h w"], truth: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
    """PSNR of each image, for values in [-1, 1]."""
    return 10 * torch.log10(4 / (ours - truth).square().mean((1, 2, 3)))


@torch.no_grad()
def caption_errors(base: Base, scheduler: "DDIMScheduler", held_out: CaptionedImages) -> dict[str, float]:
    """Mean squared velocity error on held-out images by what their captions say.

    The words of one attribute at a time are exchanged for those of another image; noise is the same for all.
    """
    latents = encode(base.vae, held_out.images(torch.arange(len(held_out))))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(latents.shape, generator=generator)
    errors = {}
    for kind in ("right", "colour", "style", "azimuth", "elevation", "empty"):
        text = encode_text(
            base, [_changed(held_out.captions, number, kind) for number in range(len(held_out))]
        )
        of_level = []
        for level in LEVELS:
            time = torch.full((len(latents),), level)
            noisy = scheduler.add_noise(latents, noise, time)
            predicted = base.unet(noisy, time, text).sample
            of_level.append(F.mse_loss(predicted, scheduler.get_velocity(latents, noise, time)))
        name = {"right": "right caption", "empty": "empty caption"}.get(kind, f"other {kind}")
        errors[name] = float(torch.stack(of_level).mean())
    return errors


def words_of(text: str) -> dict[str, str]:
    """The attributes in a caption of `data.shapes.captions.caption`."""
    subject, view, camera = text.removeprefix("an object: a ").split(", ")
    colour, _, style = subject.partition(" ")
    return {
        "colour": colour,
        "style": style,
        "azimuth": view.removesuffix(" view"),
        "elevation": camera.removesuffix(" camera"),
    }


def _changed(captions: list[str], number: int, kind: str) -> str:
    """Caption `number` with one attribute of the next caption in which it differs."""
    if kind in ("right", "empty"):
        return captions[number] if kind == "right" else ""
    own = words_of(captions[number])
    others = (words_of(captions[(number + i) % len(captions)])[kind] for i in range(1, len(captions)))
    other = next((word for word in others if word != own[kind]), own[kind])
    return caption(**own | {kind: other})


def _scheduler(folder: Path) -> "DDIMScheduler":
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_pretrained(folder, subfolder="scheduler", set_alpha_to_one=False)


@torch.no_grad()
def _samples(
    base: Base, scheduler: "DDIMScheduler", size: int, check: Callable[[], object]
) -> list[Float[Tensor, "v 3 h w"]]:
    """A row of images for each of SAMPLED: one for every word of azimuth, by DDIM with guidance."""
    generator = torch.Generator().manual_seed(1)
    side = size // 2 ** (len(base.vae.config.block_out_channels) - 1)
    rows = []
    for colour, style in progress_bar(SAMPLED, desc="samples", unit="row"):
        prompts = [caption(colour, style, azimuth, ELEVATION) for azimuth in AZIMUTH_WORDS]
        text = encode_text(base, [*prompts, *[""] * len(prompts)])
        latents = torch.randn(len(prompts), base.unet.config.in_channels, side, side, generator=generator)
        for time in scheduler.timesteps:
            check()
            seen, empty = base.unet(latents.repeat(2, 1, 1, 1), time, text).sample.chunk(2)
            guided = empty + GUIDANCE * (seen - empty)
            latents = scheduler.step(guided, time, latents).prev_sample
        rows.append(decode(base.vae, latents))
    return rows


def _sample_figures(samples: list[Float[Tensor, "v 3 h w"]], cars: CaptionedImages) -> dict[str, object]:
    """Shares of samples whose colour and silhouette are nearest to those of their own words in training."""
    images = cars.images(torch.arange(0, len(cars), max(1, len(cars) // 4000)))
    words = [words_of(cars.captions[number]) for number in range(0, len(cars), max(1, len(cars) // 4000))]
    colours = {colour for colour, _ in SAMPLED}
    right = {"colour": [], "azimuth": []}
    for kind, names, feature in (
        ("colour", sorted(colours), car_colour),
        ("azimuth", AZIMUTH_WORDS, silhouette),
    ):
        chosen = {name: [i for i, word in enumerate(words) if word[kind] == name] for name in names}
        centres = {name: feature(images[found]).mean(0) for name, found in chosen.items() if found}
        for (colour, _), row in zip(SAMPLED, samples, strict=True):
            for azimuth, vector in zip(AZIMUTH_WORDS, feature(row), strict=True):
                nearest = min(centres, key=lambda name: float((centres[name] - vector).square().sum()))
                right[kind].append(nearest == {"colour": colour, "azimuth": azimuth}[kind])
    return {
        "number": len(right["colour"]),
        "right_colour": sum(right["colour"]) / len(right["colour"]),
        "chance_colour": 1 / len(colours),
        "right_azimuth": sum(right["azimuth"]) / len(right["azimuth"]),
        "chance_azimuth": 1 / len(AZIMUTH_WORDS),
    }


def car_colour(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3"]:
    """Mean colour of the pixels that are not background."""
    shown = _foreground(images)
    return (images * shown).sum((2, 3)) / shown.sum((2, 3)).clamp_min(1)


def silhouette(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
    """Coverage on a coarse grid."""
    return F.adaptive_avg_pool2d(_foreground(images), 16).flatten(1)


def _foreground(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    return (images.amin(1, keepdim=True) < 0.85).float()
