"""The optimiser's state in checkpoints of the earlier implementation: AdamW.state_dict(), which numbers the
parameters, and ours, which names them.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoint import Checkpoint
from models.torch_file import check_tensor, refusal, separate

PARTS = ("encoder", "renderer", "denoiser")  # its groups of parameters, by our names
REMEDY = "set 'optim' to None to drop the optimiser"

Groups = list[dict[str, Any]]


def unpack_optimizer(
    path: Path, optim: Any, parameters: dict[str, Tensor]
) -> tuple[dict[str, Tensor], Groups | None]:
    """Its tensors as optim.NAME.KEY, and its parameter groups as they are.

    `parameters` are in the order of its numbers; only names and shapes matter. Nothing where `optim` is None.
    Raises ValueError where it is no state of AdamW for these parameters.
    """
    if optim is None:
        return {}, None
    if not isinstance(optim, dict) or set(optim) != {"state", "param_groups"}:
        raise refusal(path, "optim", "is no state of AdamW", REMEDY)
    state, groups, names = optim["state"], optim["param_groups"], list(parameters)
    if not _are_groups(groups) or [i for group in groups for i in group["params"]] != [*range(len(names))]:
        raise refusal(path, "optim.param_groups", f"does not number {len(names)} parameters", REMEDY)
    if not isinstance(state, dict) or not all(type(i) is int and 0 <= i < len(names) for i in state):
        raise refusal(path, "optim.state", "is of unknown parameters", REMEDY)
    tensors: dict[str, Tensor] = {}
    for i, values in state.items():
        if not isinstance(values, dict) or not all(str(key).isidentifier() for key in values):
            raise refusal(path, f"optim.state.{i}", "is no dict of tensors", REMEDY)
        for key, value in values.items():
            where = f"optim.state.{i}.{key}"
            check_tensor(path, where, value)
            if value.shape not in ((), parameters[names[i]].shape):
                raise refusal(path, where, f"has shape {list(value.shape)}, unlike its weight", REMEDY)
            tensors[f"optim.{names[i]}.{key}"] = value
    return tensors, groups


def pack_optimizer(checkpoint: Checkpoint, parameters: dict[str, Tensor]) -> dict[str, Any] | None:
    """A checkpoint's optimiser as AdamW.state_dict(); None where it has none."""
    state: dict[int, dict[str, Tensor]] = {}
    numbers = {name: number for number, name in enumerate(parameters)}
    tensors = separate(checkpoint.section("optim"))
    for full in sorted(tensors, key=lambda full: (not full.endswith(".step"), full)):  # as AdamW orders them
        name, key = full.rsplit(".", 1)
        state.setdefault(numbers[name], {})[key] = tensors[full]
    if not state:
        return None
    groups = (checkpoint.origin or {}).get("param_groups") or _make_groups(checkpoint, parameters)
    return {
        "state": dict(sorted(state.items())),
        "param_groups": [{name: _as_tuple(name, value) for name, value in group.items()} for group in groups],
    }


def _are_groups(groups: Any) -> bool:
    """Whether these are parameter groups of plain values, which JSON can hold."""
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return False
    return all(
        isinstance(name, str) and isinstance(value, list) == (name == "params") and _is_plain(value)
        for group in groups
        for name, value in ({"params": None} | group).items()
    )


def _is_plain(value: Any) -> bool:
    items = value if isinstance(value, list | tuple) else [value]
    return all(type(item) in (bool, int, float, str, type(None)) for item in items)


def _as_tuple(name: str, value: Any) -> Any:
    """Undo what JSON, which knows no tuples, does to a value of a parameter group."""
    return tuple(value) if isinstance(value, list) and name != "params" else value


def _make_groups(checkpoint: Checkpoint, parameters: dict[str, Tensor]) -> Groups:
    """Parameter groups for a run of our own, with what its config says of AdamW."""
    known = checkpoint.config.get("optim", {})
    options = {name: known[name] for name in ("lr", "betas", "weight_decay") if name in known}
    groups = [
        {"params": [value for name, value in parameters.items() if name.startswith(f"{part}.")]}
        for part in PARTS
    ]
    return torch.optim.AdamW(groups, **options).state_dict()["param_groups"]
