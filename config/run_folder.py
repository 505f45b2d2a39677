"""A run directory: config.json, log.jsonl, samples/ and checkpoints/, and warnings.jsonl where there are any.
Only one process writes it."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from config import RunConfig, validate_config
from config.foreign import open_checkpoint
from models import family
from models.base import NVSModel
from models.checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    checkpoint_path,
    checkpoints_of,
    find_checkpoint,
    keep_newest,
    load_checkpoint,
    restore,
    save_checkpoint,
    write_text_synced,
)
from models.ema import EMA
from models.loading import on_any_machine, ready_model
from models.older import renewed
from models.transfer import transfer_weights

LOG, WARNINGS = "log.jsonl", "warnings.jsonl"
GEOMETRY = ("object_radius", "resampling")  # keys of the data that change what a model sees


class RunFolder:
    """What a run leaves on disk."""

    def __init__(self, config: RunConfig):
        self.config = config
        self.path = config.folder

    @property
    def started(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return bool(checkpoints_of(self.path))

    def start(self, model: NVSModel, ema: EMA, optimizer: torch.optim.Optimizer) -> tuple[int, str]:
        """Resume from the newest checkpoint that is whole, or begin; returns the updates made so far and what
        to tell the user.

        Beginning, weights come from `config.transfer` where it is set. Raises ValueError where no checkpoint
        can be used or the newest one is of another model.
        """
        found = checkpoints_of(self.path)
        if found:
            checkpoint, damage = _newest_whole(found)
            theirs, ours = _model_of(checkpoint), self.config.model.model_dump(mode="json")
            changed = _without(_differences(_completed(theirs), ours), model.resource_settings)
            if changed:
                raise ValueError(
                    f"{checkpoint.path}: was trained with another {_described(next(iter(changed.items())))}; "
                    "give this run another name, or delete the old one"
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
        report += [f"  trained with another {_described(difference)}" for difference in changed]
        ema.reset(model)
        return 0, "\n".join(report)

    def open(self, step: int) -> None:
        """Write the config, and cut log and warnings back to what the weights have seen.

        Raises ValueError where the folder cannot be written.
        """
        try:
            (self.path / "samples").mkdir(parents=True, exist_ok=True)
            for unfinished in self.path.glob("checkpoints/*.unfinished"):  # of a run that was killed
                unfinished.unlink()
            write_text_synced(self.path / "config.json", self.config.model_dump_json(indent=2) + "\n")
            for path in filter(Path.exists, (self.path / LOG, self.path / WARNINGS)):
                lines = path.read_text(encoding="utf-8").splitlines()
                write_text_synced(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= step))
        except OSError as error:
            cause = error.__cause__ or error  # why a file could not be written whole
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
        """Write a checkpoint and delete the oldest. Raises OSError where the disk is full, say."""
        config = self.config.model_dump(mode="json")
        save_checkpoint(checkpoint_path(self.path, step), model, ema, optimizer, step=step, config=config)
        keep_newest(self.path, self.config.train.keep)

    def picture(self, step: int) -> Path:
        """Where the picture of held-out views of a step belongs."""
        return self.path / "samples" / f"step-{step:08d}.png"

    def _change_of_length(self, checkpoint: Checkpoint, model: NVSModel) -> str:
        """What to tell the user where schedules now run over another number of steps."""
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
    """The last of the checkpoints that is as it was written, and what is wrong with later ones.

    Raises DamagedCheckpointError where all are damaged.
    """
    damage: list[str] = []
    for path in reversed(paths):
        try:
            return load_checkpoint(path), damage
        except DamagedCheckpointError as error:
            damage.append(str(error))
    raise DamagedCheckpointError(damage[0])


def load_model(run_or_checkpoint: str | Path) -> tuple[NVSModel, RunConfig, int]:
    """A trained model, ready to sample on the CPU, with its run's config and the number of updates it has
    seen.

    Weights are the averaged ones. Raises ValueError where the checkpoint cannot be read or does not hold what
    its config describes.
    """
    path = find_checkpoint(run_or_checkpoint)
    checkpoint = open_checkpoint(path)
    if checkpoint.partial:
        raise ValueError(
            f"{path}: holds a denoiser alone, without volumes; train a model that begins with it: "
            f"train.py CONFIG transfer={path}"
        )
    config = validate_config(checkpoint.config, str(path))
    config = config.model_copy(update={"model": on_any_machine(config.model)})
    model = ready_model(checkpoint, config.model, options=config.sample, data=config.data)
    return model, config, checkpoint.step


def model_differences(checkpoint: Checkpoint, config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """In what a checkpoint's model computes otherwise than that of `config`: keys, each with both values.

    Of a part of a model only what is known is compared. What matters in training alone does not count.
    """
    theirs, ours = _model_of(checkpoint), config.model.model_dump(mode="json")
    found = _differences(theirs, ours) if checkpoint.partial else _differences(_completed(theirs), ours)
    data = checkpoint.config.get("data")
    if isinstance(data, dict):
        known = {key: data[key] for key in GEOMETRY if key in data}
        found |= _differences(known, {key: getattr(config.data, key) for key in known}, "data")
    kind = family(config.model.family)
    counting = _without(found, kind.training_settings + kind.resource_settings)
    return {key: values for key, values in counting.items() if not (checkpoint.partial and values[0] is None)}


def _model_of(checkpoint: Checkpoint) -> Any:
    """The model's section of a checkpoint's config."""
    return renewed(checkpoint.config).get("model")


def _without(differences: dict[str, tuple[Any, Any]], ignored: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    """The differences that lie outside the `ignored` keys and sections."""
    return {
        key: values
        for key, values in differences.items()
        if not any(f"{key}.".startswith(f"{name}.") for name in ignored)
    }


def _differences(theirs: Any, ours: Any, path: str = "model") -> dict[str, tuple[Any, Any]]:
    """The keys, from `path` on, in which two configs differ, each with both values."""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return {} if theirs == ours else {path: (theirs, ours)}
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(theirs.keys() | ours.keys()):
        found |= _differences(theirs.get(key), ours.get(key), f"{path}.{key}")
    return found


def _completed(model: Any) -> Any:
    """A model's config with the defaults of what it leaves out, which an older version did not know."""
    try:
        return family(str(model["family"])).Config.model_validate(model).model_dump(mode="json")
    except (ValueError, KeyError, TypeError):
        return model


def _described(difference: tuple[str, tuple[Any, Any]]) -> str:
    key, (before, now) = difference
    return f"{key} ({json.dumps(before)}, now {json.dumps(now)})"


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize  # a line that was cut short while it was written
