"""Checkpoints of the earlier open implementation, `genvs.pt`: names, reading, writing.

Such a file is a dict {'optim', 'model', 'step', 'epoch'}. Its weights have other names and another order than
ours; the optimiser numbers them in that order. Every weight of the denoiser is saved twice, under two names.
"Keys" are names in that format.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from config.run import RunConfig, load_config
from models.checkpoints.building import empty_model
from models.checkpoints.format import Checkpoint, require_same
from models.checkpoints.opened_file import CheckpointFile
from models.checkpoints.torch_file import check_tensor, refusal, separate

# The config with which a model computes the same as the published code from the same weights.
PUBLISHED_CONFIG = Path(__file__).parents[2] / "config" / "srn_cars_128_published.json"
BEGINNINGS = ("input_unet.", "nerf.", "ddpm_pipeline.")  # of names in the format
PARTS = ("encoder", "renderer", "denoiser")  # its groups of parameters, by our names

REMEDY = "set 'optim' to None to drop the optimiser"

Groups = list[dict[str, Any]]


# Our layers and theirs, in the order of their file.
LAYERS = {
    "encoder.backbone": "input_unet.encoder",
    "encoder.decoder.pyramid.point": "input_unet.decoder.aspp.0.convs.0.0",
    **{
        f"encoder.decoder.pyramid.atrous.{i}.{j}": f"input_unet.decoder.aspp.0.convs.{i + 1}.0.{j}"
        for i in range(3)
        for j in range(2)
    },
    "encoder.decoder.pyramid.pooled": "input_unet.decoder.aspp.0.convs.4.1",
    "encoder.decoder.pyramid.project": "input_unet.decoder.aspp.0.project.0",
    "encoder.decoder.refine": "input_unet.decoder.aspp.1",
    "encoder.decoder.shallow": "input_unet.decoder.block1.0",
    "encoder.decoder.merge": "input_unet.decoder.block2.0",
    "encoder.decoder.up_to_8": "input_unet.decoder.up_block1b",
    "encoder.decoder.up_to_2": "input_unet.decoder.up_block2",
    "encoder.decoder.up_to_1": "input_unet.decoder.up_block3",
    "renderer.field.hidden": "nerf.sigma_color_net.net.0.dense",
    "renderer.field.output": "nerf.sigma_color_net.net.1",
    "denoiser.inner_model": "ddpm_pipeline.inner_model.inner_model",
}
DENOISER = "ddpm_pipeline.inner_model.inner_model."
COPY = "ddpm_pipeline.model.inner_model.inner_model."  # the denoiser's other name
# The renderer's cube, which is ours too. It stands before the field's weights.
CONSTANTS = ("nerf.aabb_train", "nerf.aabb_infer")
CUBE = (-1.0, -1.0, -1.0, 1.0, 1.0, 1.0)
OTHER_SIZE = "name its config: python -m scripts.convert_checkpoint FILE OUT --config CONFIG"


def published_key(name: str, layers: Mapping[str, str] = LAYERS) -> str:
    """The key of one of our weights. Raises ValueError if the format has no place for it."""
    for ours, theirs in layers.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    raise ValueError(f"the published format has no place for '{name}'; export a model of its architecture")


def published_names(model: nn.Module, layers: Mapping[str, str] = LAYERS) -> dict[str, str]:
    """Keys of a model's weights and buffers in the order of the published file, with our names.

    Each key occurs once, without the constants. Raises ValueError if the format cannot represent the model.
    """
    theirs = list(layers.values())
    lacking = [ours for ours in layers if not any(name.startswith(f"{ours}.") for name in model.state_dict())]
    if lacking:
        raise ValueError(
            f"the published format needs '{lacking[0]}', which this model has not; export a model of its "
            "architecture"
        )
    names = {published_key(name, layers): name for name in model.state_dict()}
    rank = {key: next(i for i, layer in enumerate(theirs) if key.startswith(f"{layer}.")) for key in names}
    return {key: names[key] for key in sorted(names, key=rank.__getitem__)}  # within layers as in the model


def is_published(file: CheckpointFile) -> bool:
    """Whether any name in a file, without prefixes of wrappers, is one of the format."""
    return any(name.startswith(BEGINNINGS) for name in file.names("model"))


def load_published(file: CheckpointFile, config: RunConfig | None) -> Checkpoint:
    """Load a published file as a checkpoint of ours.

    Such a file has no config; the default is config/srn_cars_128_published.json. Raises ValueError if the
    file has weights of another model.
    """
    config = load_config(PUBLISHED_CONFIG) if config is None else config
    return unpack(file, empty_model(config.model, file.path), config.model_dump(mode="json"))


def unpack(file: CheckpointFile, model: nn.Module, config: dict[str, Any]) -> Checkpoint:
    """Convert a published file to a checkpoint of ours of a `model` with that config.

    Only the names and shapes of the model matter, so it may be on the meta device. Also accepted: the 'model'
    entry alone, the denoiser under only one of its names, and names with prefixes of wrappers. Raises a
    one-line ValueError naming an entry that is missing, unknown, of another kind, or differs from its copy.
    """
    path, envelope, state = file.path, envelope_of(file.path, file.content), file.weights("model")
    tensors = our_tensors(path, state, model)
    moments, groups = unpack_optimizer(path, envelope.get("optim"), _parameters(model))
    origin = {"entries": len(state), "epoch": envelope.get("epoch", 0), "param_groups": groups}
    return Checkpoint(path, envelope.get("step", 0), config, separate(tensors | moments), origin=origin)


def pack(checkpoint: Checkpoint, model: nn.Module, *, raw: bool = False) -> dict[str, Any]:
    """Convert a checkpoint to the published format, for torch.save; the inverse of `unpack`.

    Weights are the averaged ones, if there are any, unless `raw`. The optimiser's state is only included with
    raw weights, to which it belongs. `model` is as in `unpack`. Raises ValueError if the checkpoint is of
    another model or the format cannot represent it.
    """
    apart = weights_to_pack(checkpoint, model, raw=raw)
    state: dict[str, Tensor] = {}
    for key, name in published_names(model).items():
        if key.startswith("nerf.") and CONSTANTS[0] not in state:
            state |= {constant: torch.tensor(CUBE) for constant in CONSTANTS}
        state[key] = apart[name]
    copies = {key: value for key, value in state.items() if key.startswith(DENOISER)}
    state |= {COPY + key.removeprefix(DENOISER): value for key, value in copies.items()}
    return {
        "optim": None if is_averaged(checkpoint, raw=raw) else pack_optimizer(checkpoint, _parameters(model)),
        "model": state,
        "step": checkpoint.step,
        "epoch": (checkpoint.origin or {}).get("epoch", 0),
    }


def our_tensors(
    path: Path, state: Mapping[str, Any], model: nn.Module, layers: Mapping[str, str] = LAYERS
) -> dict[str, Tensor]:
    """A model's weights in a published file, by the names that they have in a checkpoint of ours.

    Raises ValueError as `checked_entries` and `published_names` do.
    """
    names, own = published_names(model, layers), model.state_dict()
    weights = checked_entries(path, state, {key: own[name].shape for key, name in names.items()})
    return {f"model.{name}": weights[key] for key, name in names.items()}


def is_averaged(checkpoint: Checkpoint, *, raw: bool) -> bool:
    """Whether the weights to pack are averaged ones."""
    return bool(checkpoint.section("ema")) and not raw


def weights_to_pack(checkpoint: Checkpoint, model: nn.Module, *, raw: bool) -> dict[str, Tensor]:
    """The weights of a checkpoint for a published file, none of which share memory.

    Raises ValueError if the checkpoint is of another model.
    """
    averaged = is_averaged(checkpoint, raw=raw)
    weights = checkpoint.best_weights() if averaged else checkpoint.section("model")
    require_same(model.state_dict(), weights, checkpoint.path)
    return separate(weights)


def envelope_of(path: Path, content: Any) -> dict[str, Any]:
    """The outer dict; empty for a bare state dict."""
    if not isinstance(content, dict) or "model" not in content:
        return {}
    for key, value in content.items():
        if key not in ("optim", "model", "step", "epoch"):
            raise refusal(path, key, "is unknown in a published checkpoint", "remove it")
        if key in ("step", "epoch") and not (type(value) is int and 0 <= value < 2**63):
            raise refusal(path, key, "is no whole number from 0", "write the number of updates or epochs")
    return content


def checked_entries(path: Path, state: Mapping[str, Any], shapes: dict[str, Any]) -> dict[str, Tensor]:
    """The entries of `shapes` and the constants, each once.

    Raises ValueError if one is missing, unknown or of another kind, two copies differ, or the renderer's cube
    is another.
    """
    shapes = shapes | dict.fromkeys(CONSTANTS, (len(CUBE),))
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        key = DENOISER + name.removeprefix(COPY) if name.startswith(COPY) else name
        if key not in shapes:
            raise refusal(path, name, "is unknown in this model", OTHER_SIZE)
        check_tensor(path, name, value)
        if value.shape != shapes[key]:
            problem = f"has shape {list(value.shape)}, but {list(shapes[key])} is wanted"
            raise refusal(path, name, problem, OTHER_SIZE)
        if key in found and not _same_bits(found[key], value):
            raise refusal(path, key, f"differs from its double '{COPY}...'", "copy the file again")
        found[key] = value
    for key in shapes:
        if key not in found:
            raise refusal(path, key, "is missing", f"copy the file again, or {OTHER_SIZE}")
    for key in CONSTANTS:
        if found[key].tolist() != list(CUBE):
            raise refusal(path, key, f"is not {list(CUBE)}", "only renderers of that cube are known")
    return found


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have equal bits: zeros of different sign differ, equal nans do not."""
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    """The trained parameters, by our names, in the order of the published optimiser."""
    own = dict(model.named_parameters())
    return {name: own[name] for name in published_names(model).values() if name in own}


def unpack_optimizer(
    path: Path, optim: Any, parameters: dict[str, Tensor]
) -> tuple[dict[str, Tensor], Groups | None]:
    """Return the optimiser's tensors as optim.NAME.KEY, and its parameter groups unchanged.

    `parameters` are in the order of its numbers; only names and shapes matter. Nothing if `optim` is None.
    Raises ValueError if it is not a state of AdamW for these parameters.
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
    """A checkpoint's optimiser as AdamW.state_dict(); None if it has none."""
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
    """Restore a tuple of a parameter group, which JSON turned into a list."""
    return tuple(value) if isinstance(value, list) and name != "params" else value


def _make_groups(checkpoint: Checkpoint, parameters: dict[str, Tensor]) -> Groups:
    """Make parameter groups for a run of our own, with the AdamW options of its config."""
    known = checkpoint.config.get("optim", {})
    options = {name: known[name] for name in ("lr", "betas", "weight_decay") if name in known}
    groups = [
        {"params": [value for name, value in parameters.items() if name.startswith(f"{part}.")]}
        for part in PARTS
    ]
    return torch.optim.AdamW(groups, **options).state_dict()["param_groups"]
