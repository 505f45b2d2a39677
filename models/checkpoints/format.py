"""Checkpoints: one safetensors file each, written atomically, read without executing anything.

A file holds the weights as `model.*`, their average as `ema.*`, the optimiser's state as `optim.*`, and in
its header the step, the run's config and checksums of all these. Nothing is ever unpickled.
"""

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from data.files import write_synced
from models.base import own_state
from models.checkpoints.opened_file import CheckpointFile, DamagedCheckpointError, opened

CHECKSUMS, SEAL = "checksums", "checksum"  # keys of the header: those of the tensors, that of the header


FORMAT = "genvs-checkpoint-1"
# Key of the header: the precision of numbers that were stored with fewer bits than they have.
STORED = "stored"
PATTERN = "step-{:08d}.safetensors"
SHIPPED = Path(__file__).parents[2] / "pretrained"  # weights that come with the project
STAGE = re.compile(r"(\d+)_")  # begins the name of a stage's folder in that of a recipe


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory."""

    path: Path
    step: int  # updates made
    config: dict[str, Any]  # the run's config as plain JSON data
    tensors: dict[str, Tensor]  # named model.*, ema.*, optim.*
    origin: dict[str, Any] | None = None  # what a published file said besides, as plain JSON data
    partial: bool = False  # tensors and config of a part of a model alone
    format: str = "own"  # name of the format of its file in models.checkpoints.formats.FORMATS

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
    last stage of a recipe that has one. A bare name such as "cars_64" that is neither is that of a file in
    `pretrained/`.

    Raises ValueError where there is none of these.
    """
    path = Path(run_or_checkpoint)
    shipped = SHIPPED / f"{path.name}.safetensors"
    if path.name == str(path) and not path.exists() and shipped.is_file():
        return shipped
    if path.suffix == ".json":
        raise ValueError(f"{path}: is a config, not a run; give the folder of its run, such as runs/NAME")
    if path.is_file():
        return path
    if not path.is_dir():
        names = "".join(f", or {file.stem}" for file in sorted(SHIPPED.glob("*.safetensors")))
        raise ValueError(
            f"{path}: no such run or checkpoint; give a folder such as runs/NAME, a .safetensors file{names}"
        )
    stages = sorted((int(found[1]), child) for child in path.iterdir() if (found := STAGE.match(child.name)))
    folders = (
        [path.parent] if path.name == "checkpoints" else [path, *(child for _, child in reversed(stages))]
    )
    found = next(filter(None, map(checkpoints_of, folders)), None)
    if not found:
        raise ValueError(f"{path}: holds no checkpoints/step-*.safetensors; train it first")
    return found[-1]


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


def load_checkpoint(path: Path, *, sections: tuple[str, ...] = ("model", "ema", "optim")) -> Checkpoint:
    """Read sections of a checkpoint of ours onto the CPU.

    Raises DamagedCheckpointError where the file is cut short, is no safetensors file (a pickle, say), or does
    not agree with its checksums, and ValueError where it cannot be read or is not ours.
    """
    with opened(path) as file:
        if file.kind != "safetensors file":
            raise DamagedCheckpointError(
                f"{path}: is a pickle or {file.kind}, no checkpoint of this project; copy it again"
            )
        if not is_own(file):
            raise ValueError(
                f"{path}: is a safetensors file, but no checkpoint of this project ('{FORMAT}'); published "
                "weights get a config by python -m scripts.convert_checkpoint FILE OUT"
            )
        return load_own(file, sections)


def is_own(file: CheckpointFile) -> bool:
    """Whether a file says that it is a checkpoint of ours."""
    return file.header.get("format") == FORMAT


def load_own(file: CheckpointFile, sections: tuple[str, ...]) -> Checkpoint:
    """Sections of a checkpoint of ours. Raises DamagedCheckpointError where it is not what was written."""
    metadata, path = file.header, file.path
    try:
        tensors = {name: file.content[name] for name in file.content if name.split(".")[0] in sections}
    except SafetensorError as error:
        raise DamagedCheckpointError(f"{path}: cannot be read whole ({error}); copy it again") from error
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


def load_weights(model: nn.Module, weights: dict[str, Tensor], path: Path, *, assign: bool = False) -> None:
    """Load a complete state into a model.

    Raises ValueError naming what is missing, surplus or of another kind (shape, precision).
    """
    require_same(own_state(model), weights, path)
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


def _recast(tensors: dict[str, Tensor], old: torch.dtype, new: torch.dtype) -> dict[str, Tensor]:
    return {name: value.to(new) if value.dtype == old else value for name, value in tensors.items()}


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def checksums_of(header: dict[str, str], tensors: dict[str, Tensor]) -> dict[str, str]:
    """What to add to the header of a file that holds the tensors."""
    found = {CHECKSUMS: json.dumps({name: _checksum(value) for name, value in tensors.items()})}
    return found | {SEAL: str(_header_checksum(header | found))}


def damage_of(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str | None:
    """What disagrees with its checksum. Files of an earlier version have none."""
    if SEAL not in metadata:
        return None
    if metadata[SEAL] != str(_header_checksum(metadata)):
        return "its header"
    written = json.loads(metadata[CHECKSUMS])
    return next(
        (f"'{name}'" for name, value in tensors.items() if written.get(name) != _checksum(value)), None
    )


def checksum_of(tensors: dict[str, Tensor]) -> str:
    """Eight hexadecimal digits that tell named tensors, on the CPU, from others."""
    found = {name: _checksum(value) for name, value in sorted(tensors.items())}
    return f"{zlib.crc32(json.dumps(found).encode()):08x}"


def _header_checksum(metadata: dict[str, str]) -> int:
    """Of everything else that the header says."""
    said = {key: value for key, value in metadata.items() if key != SEAL}
    return zlib.crc32(json.dumps(said, sort_keys=True).encode())


def _checksum(tensor: Tensor) -> int:
    """CRC-32 of shape, precision and contents: finds every burst of up to 32 wrong bits, and of other damage
    all but one case in four billion."""
    kind = zlib.crc32(f"{tensor.dtype} {list(tensor.shape)}".encode())
    return zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy(), kind)
