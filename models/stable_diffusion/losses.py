"""How a latent denoiser learns: noise with an offset, and weights by the signal-to-noise ratio.

Axes: n views, c channels, h, w.
"""

from jaxtyping import Float
from torch import Tensor

from diffusion.vp_schedule import velocity_of
from models.stable_diffusion.denoiser import PredictionType

OFFSET = 0.1  # standard deviation of what a whole channel is moved by
SNR_GAMMA = 10.0


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
