"""Checkpoints of k-diffusion's own training: a denoiser alone, whose weights go into ours."""

from pathlib import Path
from typing import Any

from models.checkpoints.format import Checkpoint
from models.checkpoints.torch_file import WRAPPERS, check_tensor, refusal, separate, without_prefixes

PREFIX = "denoiser.inner_model."
WITHIN = (*WRAPPERS, "inner_model.")  # the network may be saved within its preconditioning and augmentation
PROJECTIONS = {"proj_in.weight": 4, "proj_out.weight": 4, "proj_out.bias": 1}  # and their axes
REMEDY = "save an image_v1 network of k-diffusion"


def plain_denoiser(path: Path, content: Any) -> Checkpoint | None:
    """The denoiser in a file of k-diffusion's, as part of a checkpoint of ours; None for other content.

    It may be a bare state dict, or a dict that holds one as 'model_ema' (preferred) or 'model'. The config is
    what the file tells of it. Raises ValueError where an entry is no plain tensor.
    """
    if not isinstance(content, dict):
        return None
    found = (content[key] for key in ("model_ema", "model") if isinstance(content.get(key), dict))
    weights = without_prefixes(path, next(found, content), WITHIN)
    if "proj_in.weight" not in weights or not any(name.startswith("u_net.") for name in weights):
        return None
    for name, value in weights.items():
        check_tensor(path, name, value)
    for name, num_axes in PROJECTIONS.items():
        if name not in weights or weights[name].dim() != num_axes:
            raise refusal(path, name, "is missing or no weight of a network for images", REMEDY)
    step = content.get("step")
    tensors = separate({f"model.{PREFIX}{name}": value for name, value in weights.items()})
    known = _known_config(content.get("config"))
    step = step if type(step) is int and step >= 0 else 0
    return Checkpoint(path, step, known, tensors, partial=True)


def _known_config(config: Any) -> dict[str, Any]:
    """What a config of k-diffusion says in terms of ours; its images are always from -1 to 1."""
    known: dict[str, Any] = {"image_range": "symmetric"}
    model = config.get("model") if isinstance(config, dict) else None
    sigma_data = model.get("sigma_data") if isinstance(model, dict) else None
    if type(sigma_data) in (int, float):
        known["denoiser"] = {"sigma_data": float(sigma_data)}
    return {"model": known}
