"""Checkpoints of any kind that can be opened: ours, the published GeNVS weights, k-diffusion's denoisers."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from config import RunConfig, load_config
from models.checkpoint import FORMAT, Checkpoint, load_checkpoint
from models.loading import empty_model
from models.plain_denoiser import plain_denoiser
from models.published import has_published_names, unpack
from models.torch_file import is_torch_file, read_torch_file, without_prefixes

# How a model must be set to compute what the published code computes from the same weights.
PUBLISHED_CONFIG = Path(__file__).parent / "srn_cars_128_published.json"


def open_checkpoint(
    path: Path, *, sections: tuple[str, ...] = ("model", "ema"), config: RunConfig | None = None
) -> Checkpoint:
    """The checkpoint in a file of any kind, on the CPU.

    `config` is that of published weights, which come without one: config/srn_cars_128_published.json where it
    is None. Raises ValueError where it is no checkpoint, is damaged, could run code, or holds published
    weights of another model than that.
    """
    is_torch = is_torch_file(path)
    content = read_torch_file(path) if is_torch else _foreign_safetensors(path)
    plain = plain_denoiser(path, content)
    if plain is not None:
        return plain
    if not is_torch:
        if content is None or not has_published_names(without_prefixes(path, content["model"])):
            return load_checkpoint(path, sections=sections)
        content = content["model"]
    config = load_config(PUBLISHED_CONFIG) if config is None else config
    return unpack(path, content, empty_model(config.model, path), config.model_dump(mode="json"))


def _foreign_safetensors(path: Path) -> dict[str, Any] | None:
    """Tensors and config of a safetensors file that is not ours, as k-diffusion lays out its checkpoints."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") == FORMAT:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            return {"model": tensors, "config": json.loads(metadata.get("config", "null"))}
    except (OSError, SafetensorError, ValueError, RecursionError):
        return None  # whoever reads it as one of ours says what is wrong
