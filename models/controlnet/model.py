"""A frozen Stable Diffusion as the denoiser of novel views, steered by a ControlNet on rendered features
(Zhang et al. 2023, arXiv:2302.05543; the features are those of Chan et al. 2023, arXiv:2304.02602)."""

from typing import Literal

from models.stable_diffusion.settings import ControlledConfig
from models.stable_diffusion.view_model import ControlledModel


class ControlNetConfig(ControlledConfig, frozen=True):
    """Volumes, base and ControlNet."""

    family: Literal["controlnet"] = "controlnet"


class ControlNet(ControlledModel):
    """Views are drawn independently."""

    Config = ControlNetConfig
