"""Checkpoints: one safetensors file each, written atomically, read without executing anything.

A file holds the weights as `model.*`, their average as `ema.*`, the optimiser's state as `optim.*`, and in
its header the step, the run's config and checksums of all these. Nothing is ever unpickled.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checksums import SEAL, checksums_of, damage_of
from models.ema import EMA

FORMAT = "genvs-checkpoint-1"
STORED = (
    "stored"  # key of the header: the precision of numbers that were stored with fewer bits than they have
)
PATTERN = "step-{:08d}.safetensors"
STAGE = re.compile(r"(\d+)_")  # begins the name of a stage's folder in that of a recipe


class DamagedCheckpointError(ValueError):
    """A file that is not, or no longer, what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory."""

    path: Path
    step: int  # updates made
    config: dict[str, Any]  # the run's config as plain JSON data
    tensors: dict[str, Tensor]  # named model.*, ema.*, optim.*
    origin: dict[str, Any] | None = None  # what a published file said besides, as plain JSON data
    partial: bool = False  # tensors and config of a part of a model alone

    def section(self, name: str) -> dict[str, Tensor]:
        """The tensors of one section ("model", "ema", "optim"), by their names within it."""
        prefix = f"{name}."
        return {
            key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)
        }

    def best_weights(self) -> dict[str, Tensor]:
        """The model's state with averaged weights where there are any."""
        return self.section("model") | self.section("ema")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step belongs in a run directory."""
    return folder / "checkpoints" / PATTERN.format(step)


def checkpoints_of(folder: Path) -> list[Path]:
    """The checkpoints of a run directory, oldest first."""
    found = (folder / "checkpoints").glob("step-*.safetensors")
    steps = {int(path.stem[5:]): path for path in found if re.fullmatch(r"step-\d{8,}", path.stem)}
    return [steps[step] for step in sorted(steps)]


def last_step(folder: Path) -> int | None:
    """Updates made according to the newest checkpoint of a run directory; None where there is none."""
    found = checkpoints_of(folder)
    return int(found[-1].stem[5:]) if found else None


def find_checkpoint(run_or_checkpoint: str | Path) -> Path:
    """A checkpoint file itself, or the newest one of a run directory, of its folder of checkpoints, or of the
    last stage of a recipe that has one.

    Raises ValueError where there is neither.
    """
    path = Path(run_or_checkpoint)
    if path.suffix == ".json":
        raise ValueError(f"{path}: is a config, not a run; give the folder of its run, such as runs/NAME")
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(
            f"{path}: no such run or checkpoint; give a folder such as runs/NAME or a .safetensors file"
        )
    stages = sorted((int(found[1]), child) for child in path.iterdir() if (found := STAGE.match(child.name)))
    folders = (
        [path.parent] if path.name == "checkpoints" else [path, *(child for _, child in reversed(stages))]
    )
    found = next(filter(None, map(checkpoints_of, folders)), None)
    if not found:
        raise ValueError(f"{path}: holds no checkpoints/step-*.safetensors; train it first")
    return found[-1]


def save_checkpoint(
    path: Path,
    model: nn.Module,
    ema: EMA,
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    config: dict[str, Any],
) -> None:
    """Write a checkpoint of a run, as `write_checkpoint` does."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in ema.shadow.items()}
    tensors |= {f"optim.{name}": value for name, value in _optimizer_state(model, optimizer).items()}
    write_checkpoint(Checkpoint(path, step, config, tensors))


def write_checkpoint(checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a checkpoint where its path says, whole or not at all.

    With `half`, numbers of 32 bits are stored with 16 (bfloat16), and read as float32 again. Raises OSError
    where the file cannot be written; what was there before is still there then.
    """
    header = {"format": FORMAT, "step": str(checkpoint.step), "config": json.dumps(checkpoint.config)}
    if checkpoint.origin is not None:
        header["published"] = json.dumps(checkpoint.origin)
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
    if half:
        header[STORED] = "bfloat16"
        tensors = _recast(tensors, torch.float32, torch.bfloat16)
    header |= checksums_of(header, tensors)
    write_synced(checkpoint.path, lambda unfinished: save_file(tensors, unfinished, header))


def write_synced(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file beside its final name, sync it, then rename it: no reader sees half of it.

    Raises OSError where the file cannot be written; what was there before is still there then.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        _sync(unfinished)
        unfinished.rename(path)
        _sync(path.parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save raises RuntimeError
        if unfinished.is_file():
            unfinished.unlink()
        reason = str(error).partition("\n")[0]
        raise OSError(
            f"{path}: cannot be written ({reason}); free some space or choose another folder"
        ) from error


def write_text_synced(path: Path, text: str) -> None:
    """Write a text file as `write_synced` does. Raises OSError where it cannot be written."""
    write_synced(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def keep_newest(folder: Path, num: int) -> None:
    """Delete all but the `num` newest checkpoints of a run directory."""
    for path in checkpoints_of(folder)[:-num]:
        path.unlink()


def load_checkpoint(path: Path, *, sections: tuple[str, ...] = ("model", "ema", "optim")) -> Checkpoint:
    """Read sections of a checkpoint onto the CPU.

    Raises DamagedCheckpointError where the file is cut short, is no safetensors file (a pickle, say), or does
    not agree with its checksums, and ValueError where it cannot be read or is not ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = [name for name in file.keys() if name.split(".")[0] in sections]  # noqa: SIM118 (no dict)
            tensors = {name: file.get_tensor(name) for name in names}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error}); give the path of a checkpoint") from error
    except SafetensorError as error:
        raise DamagedCheckpointError(
            f"{path}: is cut short or no safetensors file ({error}); copy it again"
        ) from error
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path}: is a safetensors file, but no checkpoint of this project ('{FORMAT}'); published "
            "weights get a config by python -m scripts.convert_checkpoint FILE OUT"
        )
    damage = damage_of(metadata, tensors)
    if damage:
        raise DamagedCheckpointError(
            f"{path}: {damage} is not what was written; copy it again, or use an earlier checkpoint"
        )
    try:
        step, config = int(metadata["step"]), json.loads(metadata["config"])
        origin = json.loads(metadata.get("published", "null"))
        if step < 0 or not isinstance(config, dict) or not isinstance(origin, dict | None):
            raise ValueError("step below 0, or a config that is no object")
    except (KeyError, ValueError, RecursionError) as error:
        raise DamagedCheckpointError(
            f"{path}: its header is damaged ({error}); use an earlier checkpoint"
        ) from error
    if STORED in metadata:
        tensors = _recast(tensors, torch.bfloat16, torch.float32)
    return Checkpoint(path, step, config, tensors, origin)


def checkpoint_seal(path: Path) -> str | None:
    """What tells a checkpoint that can be read from all others; None: it is no file of this version."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(SEAL)
    except SafetensorError:  # a file of torch.save
        return None


def restore(checkpoint: Checkpoint, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> None:
    """Continue where a checkpoint left off: weights, their average and the optimiser's state, bit for bit.

    Raises ValueError where the checkpoint is of another model.
    """
    load_weights(model, checkpoint.section("model"), checkpoint.path)
    if checkpoint.section("ema"):
        require_same(ema.shadow, checkpoint.section("ema"), checkpoint.path)
        for name, value in checkpoint.section("ema").items():
            ema.shadow[name].copy_(value)
    else:  # converted weights come without an average
        ema.reset(model)
    state, names = checkpoint.section("optim"), _names(model)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found = {key: state.get(f"{names[parameter]}.{key}") for key in ("step", "exp_avg", "exp_avg_sq")}
            if all(value is not None for value in found.values()):
                for key, value in found.items():
                    if value.shape != (() if key == "step" else parameter.shape):
                        raise ValueError(
                            f"{checkpoint.path}: the optimiser's '{names[parameter]}.{key}' is of shape "
                            f"{list(value.shape)}, which does not fit; use an earlier checkpoint"
                        )
                optimizer.state[parameter] = {key: _beside(parameter, value) for key, value in found.items()}


def load_weights(model: nn.Module, weights: dict[str, Tensor], path: Path, *, assign: bool = False) -> None:
    """Load a complete state into a model.

    Raises ValueError naming what is missing, surplus or of another kind (shape, precision).
    """
    require_same(model.state_dict(), weights, path)
    model.load_state_dict(weights, assign=assign)


def require_same(own: dict[str, Tensor], given: dict[str, Tensor], path: Path) -> None:
    """Raise ValueError unless both have tensors of the same names, shapes and precisions."""
    missing, surplus = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    other = sorted(name for name in own.keys() & given.keys() if _kind(own[name]) != _kind(given[name]))
    if missing or surplus or other:
        raise ValueError(
            f"{path}: is of another model: {len(missing)} tensors missing {missing[:2]}, "
            f"{len(surplus)} surplus {surplus[:2]}, {len(other)} of another kind {other[:2]}"
        )


def _beside(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """A part of the optimiser's state where it belongs: on the parameter's device, also the count of steps,
    and in the parameter's order in memory, because the fused optimiser walks through both side by side."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _recast(tensors: dict[str, Tensor], old: torch.dtype, new: torch.dtype) -> dict[str, Tensor]:
    return {name: value.to(new) if value.dtype == old else value for name, value in tensors.items()}


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def _names(model: nn.Module) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


def _optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = _names(model)
    return {
        f"{names[parameter]}.{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _sync(path: Path) -> None:
    """Have the operating system write a file or folder to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
