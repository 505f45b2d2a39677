"""View mappers of other runs, and published ones (`mapper-steps-N_view.pt`), read without running anything.

A published file is a pickle of {cfg, mappers: {token: {state_dict, encoder, placeholder_object_token}}},
whose encoder is an object of the published code; only its frequencies are looked at.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints.format import find_checkpoint, load_checkpoint
from models.checkpoints.torch_file import begins_as_torch_file, check_tensor, read_torch_file
from models.viewneti.cameras import CameraCode
from models.viewneti.mapper import frequencies

ENCODERS = ("FourierPositionalEncodingNDims", "NeTIPositionalEncoding", "FourierPositionalEncoding")
ENCODER_MODULE = "models.positional_encoding"


class Stub(nn.Module):
    """An object of a published class, without its code."""


@dataclass(frozen=True)
class ViewMapper:
    """A trained view mapper."""

    path: Path
    weights: dict[str, Tensor]  # net.* and output_layer.*
    frequencies: Tensor
    model: dict[str, Any] | None  # config of its run; None of published ones

    @property
    def width(self) -> int:
        """Width of the text encoder that it was trained with."""
        return len(self.weights["output_layer.0.bias"]) // 2

    def camera(self, own: CameraCode) -> CameraCode:
        """How it sees cameras; of published ones as `own` says."""
        return own if self.model is None else CameraCode.model_validate(self.model["camera"])


def read_view_mapper(path: str) -> ViewMapper:
    """The view mapper of a run, a checkpoint of one, or a published file.

    Raises ValueError where there is none, or it is damaged.
    """
    found = find_checkpoint(path)
    if begins_as_torch_file(found) and found.suffix != ".safetensors":
        return _published(found)
    checkpoint = load_checkpoint(found, sections=("model", "ema"))
    model = checkpoint.config.get("model", {})
    state = {
        name.removeprefix("view."): value
        for name, value in checkpoint.best_weights().items()
        if name.startswith("view.")
    }
    if model.get("family") != "viewneti" or not state:
        raise ValueError(f"{found}: holds no view mapper; give a run that learned one (mode single_scene)")
    known = state.pop("frequencies")
    state.pop("norm", None)
    return ViewMapper(found, state, known, model)


def load_view_mapper(mapper: nn.Module, found: ViewMapper, width: int, fingerprint: str | None) -> None:
    """Give a mapper the weights of another. Raises ValueError where it was trained with another base, or
    sees its inputs otherwise."""
    if found.width != width:
        raise ValueError(
            f"model.view_mapper {found.path}: is for a base of width {found.width}, not {width}; set "
            "model.base to one of that width"
        )
    base = (found.model or {}).get("base", {})
    if None not in (base.get("fingerprint"), fingerprint) and base["fingerprint"] != fingerprint:
        raise ValueError(
            f"model.view_mapper {found.path}: was trained with another base ({base.get('path')}, "
            f"{base['fingerprint']}; here {fingerprint}); set model.base to that one"
        )
    if found.frequencies.shape != mapper.frequencies.shape or not torch.allclose(
        found.frequencies, mapper.frequencies, atol=1e-6
    ):
        raise ValueError(
            f"model.view_mapper {found.path}: has other frequencies; set model.camera.representation, "
            "model.view.camera_sigma, model.time_sigma and model.layer_sigma as in its run"
        )
    own = {name: value.shape for name, value in mapper.named_parameters()}
    if own != {name: value.shape for name, value in found.weights.items()}:
        raise ValueError(
            f"model.view_mapper {found.path}: has other layers than those of 64 features; give one that has"
        )
    mapper.load_state_dict(found.weights, strict=False)


def _published(path: Path) -> ViewMapper:
    content = read_torch_file(path, [(Stub, f"{ENCODER_MODULE}.{name}") for name in ENCODERS])
    mappers = content.get("mappers") if isinstance(content, dict) else None
    if not isinstance(mappers, dict) or len(mappers) != 1:
        raise ValueError(f"{path}: holds no single mapper under 'mappers'; give a mapper-steps-N_view.pt")
    (entry,) = mappers.values()
    state = entry.get("state_dict") if isinstance(entry, dict) else None
    if not isinstance(state, dict) or "output_layer.0.bias" not in state:
        raise ValueError(f"{path}: its mapper has no state_dict with output_layer.0; copy the file again")
    weights = {key: value for key, value in state.items() if key.startswith(("net.", "output_layer."))}
    for name, value in weights.items():
        check_tensor(path, name, value)
    encoder = entry.get("encoder")
    known = getattr(encoder, "w", None) if isinstance(encoder, Stub) else None
    if not isinstance(known, Tensor):
        known = _frequencies_of(path, content)
    return ViewMapper(path, weights, known.detach().float(), None)


def _frequencies_of(path: Path, content: dict[str, Any]) -> Tensor:
    """By the settings, where a file has no encoder."""
    try:
        sigmas = content["cfg"]["model"]["pe_sigmas"]
        return frequencies([sigmas["sigma_t"], sigmas["sigma_l"], *[sigmas["sigma_dtu12"]] * 12])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: has neither an encoder nor cfg.model.pe_sigmas; copy it again") from error
