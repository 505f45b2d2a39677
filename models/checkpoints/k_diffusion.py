"""Checkpoints of k-diffusion's own training: a denoiser alone, to initialise ours."""

from typing import Any

from models.checkpoints.format import Checkpoint
from models.checkpoints.opened_file import CheckpointFile
from models.checkpoints.torch_file import WRAPPERS, check_tensor, refusal, separate

PREFIX = "denoiser.inner_model."
ENTRIES = ("model_ema", "model")  # of a training checkpoint, in the order of preference
WITHIN = (*WRAPPERS, "inner_model.")  # the network may be saved within its preconditioning and augmentation
PROJECTIONS = {"proj_in.weight": 4, "proj_out.weight": 4, "proj_out.bias": 1}  # and their axes
REMEDY = "save an image_v1 network of k-diffusion"


def is_denoiser(file: CheckpointFile) -> bool:
    """Whether a file holds a network of k-diffusion alone."""
    names = file.names(*ENTRIES, wrappers=WITHIN)
    return "proj_in.weight" in names and any(name.startswith("u_net.") for name in names)


def load_denoiser(file: CheckpointFile) -> Checkpoint:
    """Load the network as a partial checkpoint of ours, with what is known of its config.

    The file may have a state dict, or a dict with one as 'model_ema' (preferred) or 'model'. Raises
    ValueError if an entry is not a plain tensor.
    """
    weights = dict(file.weights(*ENTRIES, wrappers=WITHIN))
    for name, value in weights.items():
        check_tensor(file.path, name, value)
    for name, num_axes in PROJECTIONS.items():
        if name not in weights or weights[name].dim() != num_axes:
            raise refusal(file.path, name, "is missing or no weight of a network for images", REMEDY)
    step = file.entry("step")
    tensors = separate({f"model.{PREFIX}{name}": value for name, value in weights.items()})
    known = _known_config(file.entry("config"))
    step = step if type(step) is int and step >= 0 else 0
    return Checkpoint(file.path, step, known, tensors, partial=True)


def _known_config(config: Any) -> dict[str, Any]:
    """Translate a config of k-diffusion to ours, as far as known; its images are always in [-1, 1]."""
    known: dict[str, Any] = {"image_range": "symmetric"}
    model = config.get("model") if isinstance(config, dict) else None
    sigma_data = model.get("sigma_data") if isinstance(model, dict) else None
    if type(sigma_data) in (int, float):
        known["denoiser"] = {"sigma_data": float(sigma_data)}
    return {"model": known}
