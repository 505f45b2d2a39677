"""The frozen base of a model: loaded when it is needed, and told from others by a fingerprint."""

import hashlib
from pathlib import Path

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from models.stable_diffusion.attention import attend_jointly
from models.stable_diffusion.base import Base, encode_text, load_base, read_networks

SAMPLED = 256  # numbers of each tensor that the fingerprint depends on


class BaseConfig(BaseModel, frozen=True, extra="forbid"):
    """The frozen Stable Diffusion."""

    path: str = Field(
        "segmind/tiny-sd",
        description="folder in the layout of diffusers, or a name on the Hub whose files are on this machine",
    )
    revision: str | None = Field(None, description="of a name on the Hub: branch, tag or commit")
    fingerprint: str | None = Field(
        None, description="of its weights; null: read from it when a run begins. Another base is refused"
    )


class FrozenBase:
    """A base that is no part of a model: never saved, averaged or counted. It follows the model's device."""

    def __init__(self, config: BaseConfig, *, joint: bool = False, checkpointing: bool = False):
        self._config, self._joint, self._checkpointing = config, joint, checkpointing
        self._base: Base | None = None
        self._texts: dict[str, Tensor] = {}

    @property
    def loaded(self) -> Base | None:
        """The base, if it was needed before."""
        return self._base

    def on(self, device: torch.device) -> Base:
        """The base, on a device. Raises ValueError where it cannot be loaded or is another."""
        if self._base is None:
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # the libraries draw weights first
                base = load_base(self._config.path, revision=self._config.revision)
            require_same(self._config, fingerprint(base))
            if self._joint:
                attend_jointly(base.unet)
            if self._checkpointing:
                base.unet.enable_gradient_checkpointing()
            self._base = base
        for module in modules(self._base).values():
            module.to(device)
        return self._base

    def text(self, prompt: str, device: torch.device) -> Tensor:
        """States [1, l, w] of a prompt, encoded once."""
        if prompt not in self._texts:
            self._texts[prompt] = encode_text(self.on(device), [prompt])
        return self._texts[prompt].to(device)

    def bare_networks(self) -> tuple[nn.Module, nn.Module]:
        """U-Net and VAE without weights, on the meta device, to read their sizes from.

        Raises ValueError where there are none.
        """
        return read_networks(self._config.path, revision=self._config.revision)


def modules(base: Base) -> dict[str, nn.Module]:
    """The networks of a base."""
    return {"unet": base.unet, "vae": base.vae, "text_encoder": base.text_encoder}


def with_fingerprint(config: BaseConfig) -> BaseConfig:
    """The config of a base with its fingerprint. Raises ValueError where the base cannot be loaded."""
    if config.fingerprint is not None:
        return config
    found = fingerprint(load_base(config.path, revision=config.revision))
    return config.model_copy(update={"fingerprint": found})


def require_same(config: BaseConfig, found: str) -> None:
    """Raise ValueError where a config expects another base than the one that was found."""
    if config.fingerprint not in (None, found):
        where = Path(config.path)
        raise ValueError(
            f"model.base.path {where}: its fingerprint is {found}, but the model was trained with "
            f"{config.fingerprint}; give the base that it was trained with"
        )


def fingerprint(base: Base) -> str:
    """Twelve hexadecimal digits that depend on every tensor of the networks, each at up to 256 places: to
    hash all of its gigabytes would take longer than loading them."""
    seen = hashlib.sha256()
    for name, module in modules(base).items():
        for key, value in sorted(module.state_dict().items()):
            flat = value.detach().flatten()
            places = torch.linspace(0, max(0, len(flat) - 1), min(SAMPLED, len(flat)), dtype=torch.float64)
            seen.update(f"{name}.{key} {list(value.shape)}".encode())
            seen.update(flat[places.round().long()].float().cpu().numpy().tobytes())
    return seen.hexdigest()[:12]
