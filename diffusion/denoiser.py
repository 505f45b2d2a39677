"""The denoiser: k-diffusion's `image_v1` U-Net behind EDM preconditioning (Karras et al. 2022, section 5).

Here b is scenes, v views, f channels of the condition. Views are denoised independently of one another.
"""

from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from diffusion.k_diffusion import k_diffusion
from diffusion.layers import CheckpointedUNet, replace_layers

NUM_AUGMENTATION = 9  # numbers that describe an augmentation, see diffusion/augment.py
# Targets have unit variance, and no network comes this close to them (rmse 0.007). At noise levels that
# training hardly ever draws, though, the variance head says what it likes, and exp(-740) is 0.
LEAST_LOG_VARIANCE = -10.0
GROUP_CHANNELS, HEAD_CHANNELS = 32, 64  # of group norm and attention, fixed by k-diffusion


class DenoiserConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Size of the U-Net, one entry per level from fine to coarse; every level halves the image."""

    # Upper bounds are far beyond practical use; they prevent a malicious config from building for hours.
    channels: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        (128, 128, 256, 512, 512), min_length=1, max_length=10
    )
    # Residual blocks of the encoder, and again of the decoder.
    depths: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(
        (2, 2, 2, 4, 4), min_length=1, max_length=10
    )
    self_attention: tuple[bool, ...] = (False, False, False, True, True)
    mapping_width: int = Field(256, ge=2, le=8192, multiple_of=2)  # of the noise level embedding
    # Side in pixels of the patches that are the positions of the finest level; 2 quarters the U-Net's cost.
    patch_size: int = Field(1, ge=1, le=16)
    dropout: float = Field(0.0, ge=0, lt=1)
    variance_head: bool = True  # extra output, the log variance of the error, which weights the loss
    sigma_data: float = Field(0.5, gt=0)  # standard deviation of clean images around their centre
    # Centre of denoising: 0, or the first three channels of the condition, mapped from [0, 1] to [-1, 1]. The
    # network then learns the residual to a regressed image, as in CorrDiff (Mardani et al. 2023,
    # arXiv:2309.15214).
    centre: Literal["zero", "condition"] = "zero"
    augment_condition: bool = True  # condition the network on the augmentation of its input
    checkpointing: bool = (
        False  # activation checkpointing: less memory in training, but blocks are computed twice
    )

    @model_validator(mode="after")
    def _levels_agree(self) -> "DenoiserConfig":
        lengths = {name: len(getattr(self, name)) for name in ("channels", "depths", "self_attention")}
        if len(set(lengths.values())) > 1:
            described = ", ".join(f"{name} has {count}" for name, count in lengths.items())
            raise ValueError(
                f"one entry per level is needed in each, but {described}; make them equally long"
            )
        for count in self.channels:
            if not _divides(count):
                raise ValueError(
                    f"channels: {count} cannot be split into groups of {GROUP_CHANNELS} and heads of "
                    f"{HEAD_CHANNELS}; use a multiple of {HEAD_CHANNELS}, or 32"
                )
        return self

    @property
    def smallest(self) -> int:
        """Smallest image height and width: reflection padding needs two positions at the coarsest level."""
        return 2 * self.multiple if len(self.channels) > 1 else self.patch_size

    @property
    def multiple(self) -> int:
        """Image height and width must be multiples of this."""
        return self.patch_size * 2 ** (len(self.channels) - 1)


class EDMDenoiser(nn.Module):
    """E[clean | noisy, condition] by a preconditioned U-Net (EDM eq. 7).

    Images have a standard deviation of about `config.sigma_data`. The condition is a feature image of the
    same size and is never scaled by the noise level. The state dict has k-diffusion's names under
    `inner_model.`. Under autocast only the network computes in lower precision.
    """

    channels_last_on_cpu = True  # that memory format is faster for it on CPUs, too

    def __init__(self, config: DenoiserConfig, *, condition_channels: int) -> None:
        super().__init__()
        self.config = config
        self.inner_model = k_diffusion_network(config, condition_channels=condition_channels)
        replace_layers(self.inner_model)
        if config.checkpointing:
            self.inner_model.u_net = CheckpointedUNet(self.inner_model.u_net)

    def forward(
        self,
        noisy: Float[Tensor, "b v 3 h w"],
        sigma: Float[Tensor, "b v"],
        condition: Float[Tensor, "b v f h w"],
        augmentation: Float[Tensor, "b v 9"] | None = None,
    ) -> Float[Tensor, "b v 3 h w"]:
        """Denoise images around their centre: c_skip noisy + c_out F(c_in noisy; c_noise, condition).

        `augmentation` describes the augmentation of the images (None or zeros for none). Raises ValueError if
        height or width does not suit the levels.
        """
        c_skip, c_out, c_in = self._scalings(sigma)
        centre = self.centre(condition)
        noisy = noisy - centre
        output, _ = self._network(c_in * noisy, sigma, condition, augmentation)
        return centre + c_skip * noisy + c_out * output

    def centre(self, condition: Float[Tensor, "b v f h w"]) -> Float[Tensor, "b v 3 h w"]:
        """Return the images that views are denoised around; sampling starts from them."""
        if self.config.centre == "zero":
            return condition.new_zeros(()).expand(*condition.shape[:2], 3, *condition.shape[-2:])
        return 2 * condition[:, :, :3].float() - 1

    def loss(
        self,
        clean: Float[Tensor, "b v 3 h w"],
        noise: Float[Tensor, "b v 3 h w"],
        sigma: Float[Tensor, "b v"],
        condition: Float[Tensor, "b v f h w"],
        augmentation: Float[Tensor, "b v 9"] | None = None,
    ) -> Float[Tensor, "b v"]:
        """Compute the training loss of each view at noise level `sigma`, for standard normal `noise`.

        Mean over pixels of (F - target)^2, with the effective target of EDM eq. 8, which weights noise levels
        like lambda(sigma) there. With the variance head it is the negative Gaussian log likelihood of the
        target, up to a constant, with predicted log variance: the weights of noise levels are learned. Log
        variances below LEAST_LOG_VARIANCE count as that, and their gradient raises them.
        """
        c_skip, c_out, c_in = self._scalings(sigma)
        # The regressed centre gets no gradient from the denoising loss.
        clean = clean - self.centre(condition).detach()
        noisy = clean + sigma[..., None, None, None] * noise
        output, log_variance = self._network(c_in * noisy, sigma, condition, augmentation)
        squared_error = (output - (clean - c_skip * noisy) / c_out).square().mean(dim=(2, 3, 4))
        if log_variance is None:
            return squared_error
        log_variance = log_variance + (LEAST_LOG_VARIANCE - log_variance.detach()).clamp(min=0)
        return (squared_error / log_variance.exp() + log_variance) / 2

    def _scalings(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return c_skip, c_out and c_in (EDM table 1), shaped for broadcasting over images."""
        sigma = sigma[..., None, None, None]
        variance = sigma.square() + self.config.sigma_data**2
        return (
            self.config.sigma_data**2 / variance,
            sigma * self.config.sigma_data * variance.rsqrt(),
            variance.rsqrt(),
        )

    def _network(
        self, scaled: Tensor, sigma: Tensor, condition: Tensor, augmentation: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the raw output F [b, v, 3, h, w] and log variance [b, v], always in float32."""
        self._check_size(*scaled.shape[-2:])
        result = self.inner_model(
            scaled.flatten(0, 1),
            sigma.flatten(),
            mapping_cond=self._mapping_condition(augmentation, sigma),
            unet_cond=condition.flatten(0, 1),
            return_variance=self.config.variance_head,
        )
        output, log_variance = result if self.config.variance_head else (result, None)
        output = output.to(scaled.dtype).unflatten(0, sigma.shape)
        return output, None if log_variance is None else log_variance.to(scaled.dtype).unflatten(
            0, sigma.shape
        )

    def _mapping_condition(self, augmentation: Tensor | None, sigma: Tensor) -> Tensor | None:
        if not self.config.augment_condition:
            if augmentation is not None:
                raise ValueError(
                    "augment_condition is off, so the denoiser takes no augmentation; turn it on"
                )
            return None
        if augmentation is None:
            # Zeros instead of None: data-parallel training needs every weight in every step.
            augmentation = sigma.new_zeros(*sigma.shape, NUM_AUGMENTATION)
        return augmentation.flatten(0, 1)

    def _check_size(self, height: int, width: int) -> None:
        multiple, smallest = self.config.multiple, self.config.smallest
        if height % multiple or width % multiple or min(height, width) < smallest:
            raise ValueError(
                f"images of height {height} and width {width} do not suit a denoiser of "
                f"{len(self.config.channels)} levels; use multiples of {multiple}, at least {smallest}"
            )


def k_diffusion_network(config: DenoiserConfig, *, condition_channels: int) -> nn.Module:
    """Build k-diffusion's network for a config, with its original layers."""
    return k_diffusion().models.ImageDenoiserModelV1(
        c_in=3,
        feats_in=config.mapping_width,
        depths=config.depths,
        channels=config.channels,
        self_attn_depths=config.self_attention,
        mapping_cond_dim=NUM_AUGMENTATION if config.augment_condition else 0,
        unet_cond_dim=condition_channels,
        dropout_rate=config.dropout,
        patch_size=config.patch_size,
        has_variance=config.variance_head,
    )


def _divides(channels: int) -> bool:
    groups = [count % max(1, count // GROUP_CHANNELS) == 0 for count in (channels, 2 * channels)]
    return channels > 0 and all(groups) and channels % max(1, channels // HEAD_CHANNELS) == 0
