"""The frozen base of the mappers: loaded when it is needed, and told from others by a fingerprint."""

import hashlib

import torch
from torch import nn

from models.stable_diffusion.base import Base, load_base
from models.stable_diffusion.layered_text import look_by_layers, text_layers
from models.viewneti.config import BaseConfig

SAMPLED = 256  # numbers of each tensor that the fingerprint depends on


class FrozenBase:
    """A base that is no part of a model: never saved, averaged, counted or moved with it."""

    def __init__(self, config: BaseConfig, *, checkpoint: bool):
        self._config, self._checkpoint = config, checkpoint
        self._base: Base | None = None

    @property
    def loaded(self) -> Base | None:
        """The base, if it was needed before."""
        return self._base

    def on(self, device: torch.device) -> Base:
        """The base, on a device. Raises ValueError where it cannot be loaded or is another."""
        if self._base is None:
            base = load_base(self._config.path, revision=self._config.revision)
            require_same(self._config, measure(self._config, base))
            look_by_layers(base.unet)
            if self._checkpoint:
                base.unet.enable_gradient_checkpointing()
            self._base = base
        for module in modules(self._base).values():
            module.to(device)
        return self._base


def modules(base: Base) -> dict[str, nn.Module]:
    """The networks of a base."""
    return {"unet": base.unet, "vae": base.vae, "text_encoder": base.text_encoder}


def measured(config: BaseConfig) -> BaseConfig:
    """The config of a base with what only its files know. Raises ValueError where they say otherwise."""
    if None not in (config.width, config.layers, config.fingerprint):
        return config
    found = measure(config, load_base(config.path, revision=config.revision))
    require_same(config, found)
    return found


def measure(config: BaseConfig, base: Base) -> BaseConfig:
    """The config with the width, layers and fingerprint of a loaded base."""
    known = {
        "width": base.text_encoder.config.hidden_size,
        "layers": len(text_layers(base.unet)),
        "fingerprint": fingerprint(base),
    }
    return config.model_copy(update=known)


def require_same(config: BaseConfig, found: BaseConfig) -> None:
    """Raise ValueError where a config expects another base than the one that was found."""
    for key in ("width", "layers", "fingerprint"):
        wanted, there = getattr(config, key), getattr(found, key)
        if wanted not in (None, there):
            raise ValueError(
                f"model.base.path {config.path}: its {key} is {there}, but the mappers are for {wanted}; "
                "give the base that they were trained with"
            )


def fingerprint(base: Base) -> str:
    """Twelve hexadecimal digits that depend on every tensor of U-Net and text encoder, each at up to 256
    places: to hash all of its gigabytes would take longer than loading them."""
    seen = hashlib.sha256()
    for name in ("unet", "text_encoder"):
        for key, value in sorted(modules(base)[name].state_dict().items()):
            flat = value.detach().flatten()
            places = torch.linspace(0, max(0, len(flat) - 1), min(SAMPLED, len(flat)), dtype=torch.float64)
            seen.update(f"{name}.{key} {list(value.shape)}".encode())
            seen.update(flat[places.round().long()].float().cpu().numpy().tobytes())
    return seen.hexdigest()[:12]
