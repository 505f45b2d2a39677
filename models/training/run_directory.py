"""A run directory: config.json, log.jsonl, samples/ and checkpoints/, and warnings.jsonl if there are any.

Only the main process writes it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from config.run import RunConfig
from data.files import write_text_synced
from models.base import NVSModel, own_parameters, own_state
from models.checkpoints.format import (
    Checkpoint,
    DamagedCheckpointError,
    checkpoint_path,
    checkpoints_of,
    find_checkpoint,
    load_checkpoint,
    load_weights,
    require_same,
    write_checkpoint,
)
from models.checkpoints.loading import open_checkpoint
from models.checkpoints.transfer import (
    described,
    model_differences,
    resuming_differences,
    transfer_weights,
)
from models.training.ema import EMA

LOG, WARNINGS = "log.jsonl", "warnings.jsonl"


class RunFolder:
    """The directory of a run."""

    def __init__(self, config: RunConfig):
        self.config = config
        self.path = config.folder

    @property
    def started(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return bool(checkpoints_of(self.path))

    def start(self, model: NVSModel, ema: EMA, optimizer: torch.optim.Optimizer) -> tuple[int, str]:
        """Resume from the newest undamaged checkpoint, or start; returns the updates made and a message.

        A new run takes its weights from `config.transfer`, if set. Raises ValueError if no checkpoint can be
        used or the newest one is of another model.
        """
        found = checkpoints_of(self.path)
        if found:
            checkpoint, damage = _newest_whole(found)
            for difference in resuming_differences(checkpoint, self.config).items():
                raise ValueError(
                    f"{checkpoint.path}: was trained with another {described(*difference)}; give this run "
                    "another name, or delete the old one"
                )
            restore(checkpoint, model, ema, optimizer)
            rest = self.config.train.steps - checkpoint.step
            left = "" if rest > 0 else f", nothing left to do: train.steps is {self.config.train.steps}"
            warnings = "".join(f"warning: {problem}\n" for problem in damage)
            message = f"{warnings}resuming {self.path} at step {checkpoint.step}{left}"
            return checkpoint.step, message + self._change_of_length(checkpoint, model)
        if not self.config.transfer:
            return 0, f"starting {self.path}"
        checkpoint = open_checkpoint(find_checkpoint(self.config.transfer))
        report = [transfer_weights(model, checkpoint)]
        changed = model_differences(checkpoint, self.config).items()
        report += [f"  trained with another {described(*difference)}" for difference in changed]
        ema.reset(model)
        return 0, "\n".join(report)

    def open(self, step: int) -> None:
        """Write the config, and truncate log and warnings to the `step` of the weights.

        Raises ValueError if the folder cannot be written.
        """
        try:
            (self.path / "samples").mkdir(parents=True, exist_ok=True)
            for unfinished in self.path.glob("checkpoints/*.unfinished"):  # of an interrupted run
                unfinished.unlink()
            write_text_synced(self.path / "config.json", self.config.model_dump_json(indent=2) + "\n")
            for path in filter(Path.exists, (self.path / LOG, self.path / WARNINGS)):
                lines = path.read_text(encoding="utf-8").splitlines()
                write_text_synced(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= step))
        except OSError as error:
            cause = error.__cause__ or error  # the cause of a failed write
            raise ValueError(
                f"{self.path}: cannot be written ({cause.strerror}); choose another folder with runs=FOLDER"
            ) from error

    def log(self, report: dict[str, Any]) -> None:
        """Append a line to log.jsonl."""
        self._append(LOG, report)

    def warn(self, step: int, warning: str) -> None:
        """Append a line to warnings.jsonl."""
        self._append(WARNINGS, {"step": step, "warning": warning})

    def save(self, model: NVSModel, ema: EMA, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Write a checkpoint and delete the oldest. Raises OSError, for example if the disk is full."""
        config = self.config.model_dump(mode="json")
        save_checkpoint(checkpoint_path(self.path, step), model, ema, optimizer, step=step, config=config)
        keep_newest(self.path, self.config.train.keep)

    def picture(self, step: int) -> Path:
        """The path of the image of held-out views at a step."""
        return self.path / "samples" / f"step-{step:08d}.png"

    def _change_of_length(self, checkpoint: Checkpoint, model: NVSModel) -> str:
        """A message if schedules now run over another number of steps, else ""."""
        train, steps = checkpoint.config.get("train"), self.config.train.steps
        before = train.get("steps", steps) if isinstance(train, dict) else steps
        scheduled = self.config.data.scheduled(0.0) | model.scheduled(0.0)
        if before == steps or not (scheduled or self.config.optim.schedule == "cosine"):
            return ""
        return f"; train.steps was {before}: schedules now run over {steps} steps"

    def _append(self, name: str, entry: dict[str, Any]) -> None:
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _newest_whole(paths: list[Path]) -> tuple[Checkpoint, list[str]]:
    """Load the last undamaged checkpoint; also returns what is wrong with later ones.

    Raises DamagedCheckpointError if all are damaged.
    """
    damage: list[str] = []
    for path in reversed(paths):
        try:
            return load_checkpoint(path), damage
        except DamagedCheckpointError as error:
            damage.append(str(error))
    raise DamagedCheckpointError(damage[0])


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize  # a truncated line


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
    tensors = {f"model.{name}": value for name, value in own_state(model).items()}
    tensors |= {f"ema.{name}": value for name, value in ema.shadow.items()}
    tensors |= {f"optim.{name}": value for name, value in _optimizer_state(model, optimizer).items()}
    write_checkpoint(Checkpoint(path, step, config, tensors))


def keep_newest(folder: Path, num: int) -> None:
    """Delete all but the `num` newest checkpoints of a run directory."""
    for path in checkpoints_of(folder)[:-num]:
        path.unlink()


def restore(checkpoint: Checkpoint, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> None:
    """Restore weights, their average and the optimiser's state from a checkpoint, bit for bit.

    Raises ValueError if the checkpoint is of another model.
    """
    load_weights(model, checkpoint.section("model"), checkpoint.path)
    if checkpoint.section("ema"):
        require_same(ema.shadow, checkpoint.section("ema"), checkpoint.path)
        for name, value in checkpoint.section("ema").items():
            ema.shadow[name].copy_(value)
    else:  # converted weights have no average
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


def _beside(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """Copy optimiser state to the device and memory format of its parameter, as the fused optimiser needs."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _names(model: nn.Module) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in own_parameters(model).items()}


def _optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = _names(model)
    return {
        f"{names[parameter]}.{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }
