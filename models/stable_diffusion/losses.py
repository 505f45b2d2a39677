"""How a ControlNet learns on a frozen base: noise with an offset, dropped conditions, blurred targets, and
weights by the signal-to-noise ratio.

Axes: b scene, v view, n = b v, c channel of latents, f feature, h, w.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from data.schedule import value_at
from data.seeds import normal, uniform, view_seeds
from diffusion.vp_schedule import add_noise, velocity_of
from models.device import to_device_of
from models.stable_diffusion import latents
from models.stable_diffusion.denoiser import Condition, LatentDenoiser, PredictionType
from models.stable_diffusion.drawing import noise_features
from models.stable_diffusion.settings import OFFSET, SNR_GAMMA, ControlledConfig

RGB = 3  # channels of the condition that are colours
TAPS, LARGEST_BLUR = 21, 9  # of a blurred target: pixels of the kernel, standard deviation from 1


def diffusion_loss(
    denoiser: LatentDenoiser,
    vae: nn.Module,
    config: ControlledConfig,
    text: Float[Tensor, "1 l d"],
    images: Float[Tensor, "b v 3 h w"],
    features: Float[Tensor, "b v f h w"],
    scene_seeds: Int[Tensor, "b"],
    photo: Float[Tensor, "b c y x"] | None = None,
    *,
    joint: bool,
    progress: float,
) -> Float[Tensor, ""]:
    """Weighted squared error of what the base predicts of the views' noisy latents.

    `photo`: latents of each scene's source photo, if the ControlNet sees it. `joint`: the views of a scene
    see each other, and have one time.
    """
    num = images.shape[1]
    images, features = images.flatten(0, 1), features.flatten(0, 1)
    seeds = view_seeds(scene_seeds, num)

    # Noisy latents, at one time for the views of a scene if they see each other.
    factor = latents.factor(vae)
    size = (vae.config.latent_channels, images.shape[-2] // factor, images.shape[-1] // factor)
    with torch.no_grad():
        clean = latents.encode(vae, images, to_device_of(images, normal(seeds, size, stream="latents")))
    chance = uniform(scene_seeds if joint else seeds, (), stream="time")
    time = (chance * (denoiser.table.last_time + 1)).long()
    time = time.repeat_interleave(num) if joint else time
    gamma = to_device_of(clean, denoiser.table.gammas[time])
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
    beside = None if photo is None else photo.repeat_interleave(num, dim=0)
    condition = Condition(text.expand(len(clean), -1, -1), features, dropped.long(), beside)

    noisy = add_noise(clean, noise, gamma)
    views = {"num_views": num if joint else 1}
    predicted = denoiser.predict(noisy, to_device_of(clean, time), condition, **views)
    target = prediction_target(clean, noise, gamma, denoiser.prediction)
    weight = torch.ones_like(gamma)
    if config.snr_gamma is not None:
        weight = min_snr_weight(gamma, denoiser.prediction, config.snr_gamma)
    return weighted_error(predicted.float(), target, weight)


def blurred(
    images: Float[Tensor, "b v 3 h w"], scene_seeds: Int[Tensor, "b"], channels: int
) -> Float[Tensor, "b v f h w"]:
    """Copies of the views as a condition of `channels`: colours from 0 to 1, blurred by a Gaussian whose
    standard deviation is a whole number of pixels from 1 to 9, and zeros."""
    b, v, _, h, w = images.shape
    sigmas = 1 + (uniform(view_seeds(scene_seeds, v), (), stream="blur") * LARGEST_BLUR).long()
    colours = (images.flatten(0, 1) + 1) / 2
    smooth = [blur(one, int(sigma)) for one, sigma in zip(colours, sigmas, strict=True)]
    condition = images.new_zeros(b * v, channels, h, w)
    condition[:, :RGB] = torch.stack(smooth)
    return condition.unflatten(0, (b, v))


def blur(image: Float[Tensor, "c h w"], sigma: int) -> Float[Tensor, "c h w"]:
    """Convolve with a Gaussian of standard deviation `sigma` pixels, on an image mirrored at its borders."""
    taps = min(TAPS, 2 * min(image.shape[-2:]) - 1)  # so that what is mirrored is there
    return gaussian_blur(image, [taps, taps], [float(sigma)] * 2)


def offset_noise(
    normal: Float[Tensor, "n c h w"], offset: Float[Tensor, "n c 1 1"], strength: float = OFFSET
) -> Float[Tensor, "n c h w"]:
    """Noise whose channels are moved as a whole, so that a network learns to change the mean of a picture."""
    return normal + strength * offset


def min_snr_weight(
    gamma: Float[Tensor, "n"], prediction: PredictionType, limit: float = SNR_GAMMA
) -> Float[Tensor, "n"]:
    """Weights of the squared error, where `gamma` of the variance is signal (Hang et al. 2023,
    arXiv:2303.09556): the signal-to-noise ratio, limited, in terms of what the network predicts."""
    snr = gamma / (1 - gamma)
    return snr.clamp_max(limit) / (snr if prediction == "epsilon" else snr + 1)


def prediction_target(
    clean: Float[Tensor, "n c h w"],
    noise: Float[Tensor, "n c h w"],
    gamma: Float[Tensor, "n"],
    prediction: PredictionType,
) -> Float[Tensor, "n c h w"]:
    """The target of the network's prediction."""
    return noise if prediction == "epsilon" else velocity_of(clean, noise, gamma)


def weighted_error(
    predicted: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], weight: Float[Tensor, "n"]
) -> Float[Tensor, ""]:
    """Mean over views of the weighted mean squared error of each."""
    return (weight * (predicted - target).square().mean(dim=(1, 2, 3))).mean()
