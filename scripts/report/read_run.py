"""Read the files of a run; nothing is written.

Runs that were killed, are still running or were copied in part are not errors: each unusable file becomes a
line of `Run.problems`.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.report.run_data import LARGEST_STEP, Row, Run, Stage, Warned


def read_run(folder: Path) -> Run:
    """A run folder, or the folder of a recipe with its stages 1_NAME, 2_NAME, ...

    Raises ValueError if there is no run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; give a run such as runs/NAME")
    problems: list[str] = []
    name = folder.resolve().name
    if _holds_run(folder):
        return Run(name, folder, (_read_stage(folder, problems),), tuple(problems))
    planned = _planned_stages(folder, problems)
    folders = _stage_folders(folder, planned)
    if not any(map(_holds_run, folders)):
        within = sorted(path.name for path in folder.iterdir() if _holds_run(path))
        remedy = f"one of the runs in it, such as {folder / within[0]}" if within else "one such as runs/NAME"
        raise ValueError(f"{folder}: holds no run, which has a config.json or log.jsonl; give {remedy}")
    stages, start = [], 0
    for path in folders:
        stage = (
            _read_stage(path, problems) if _holds_run(path) else Stage(path, path.name, planned[path.name])
        )
        stages.append(replace(stage, start=start))
        start += stage.steps
    return Run(name, folder, tuple(stages), tuple(problems))


def _holds_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "log.jsonl"))


def _planned_stages(folder: Path, problems: list[str]) -> dict[str, dict[str, Any]]:
    """Names of the stage folders listed in recipe.json, if it exists, each with its entry.

    Its "stages" are names, or objects with a "name", or an object with a key for each stage.
    """
    if not (folder / "recipe.json").is_file():
        return {}
    listed = _read_json(folder / "recipe.json", problems).get("stages")
    if isinstance(listed, dict):
        listed = [None if value is None else {"name": name} for name, value in listed.items()]
    found = {}
    for number, entry in enumerate(listed if isinstance(listed, list) else (), 1):
        document = entry if isinstance(entry, dict) else {"name": entry}
        name = str(document.get("name"))
        if entry is not None and re.fullmatch(r"\w[\w.-]*", name):
            found[name if re.match(r"\d+_", name) else f"{number}_{name}"] = document
    return found


def _stage_folders(folder: Path, planned: dict[str, dict[str, Any]]) -> list[Path]:
    """The stages, begun or planned, in natural order."""
    found = {path.name for path in folder.iterdir() if re.match(r"\d+_", path.name) and _holds_run(path)}
    return [
        folder / name
        for name in sorted(found | set(planned), key=lambda name: (int(name.split("_")[0]), name))
    ]


def _read_stage(folder: Path, problems: list[str]) -> Stage:
    log = folder / "log.jsonl"
    config = _read_json(folder / "config.json", problems)
    saved, parameters = _read_checkpoint(folder, problems)
    return Stage(
        folder,
        folder.resolve().name,
        config,
        _read_log(log, problems),
        tuple(_read_warnings(folder / "warnings.jsonl", problems)),
        _find_pictures(folder),
        saved,
        parameters,
        log.stat().st_mtime if log.is_file() else None,
    )


def _read_log(path: Path, problems: list[str]) -> tuple[Row, ...]:
    """The lines of a log by step. A run that went back, having been resumed, repeated those steps."""
    rows: list[Row] = []
    strange: dict[str, None] = {}
    for number, document in _read_lines(path, problems):
        step = _whole(document.get("step"))
        if step is None:
            problems.append(f"{path}: line {number} has no step; it is left out")
            continue
        while rows and rows[-1].step >= step:
            rows.pop()
        numbers = {key: _number(value) for key, value in document.items() if key != "step"}
        strange |= dict.fromkeys(key for key, value in numbers.items() if value is None)
        rows.append(Row(step, {key: value for key, value in numbers.items() if value is not None}))
    problems += [f"{path}: '{key[:80]}' is not always a number; other values are left out" for key in strange]
    return tuple(rows)


def _read_warnings(path: Path, problems: list[str]) -> Iterator[Warned]:
    for number, document in _read_lines(path, problems):
        step = _whole(document.get("step"))
        if step is None:
            problems.append(f"{path}: line {number} has no step; it is left out")
        else:
            yield Warned(step, str(document.get("warning", "(without words)")))


def _read_lines(path: Path, problems: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every whole line. That the last one is cut short is usual in a killed run."""
    if not path.exists():
        return
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror})")
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict):
            yield number, document
        else:
            what = "was cut short" if number == len(lines) else "is no JSON object"
            problems.append(f"{path}: line {number} {what}; it is left out")


def _read_json(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror})")
        return {}
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        problems.append(f"{path}: holds no JSON object; it is left out")
        return {}
    return document


def _find_pictures(folder: Path) -> tuple[tuple[int, Path], ...]:
    found = (folder / "samples").glob("step-*.png")
    steps = [(int(path.stem[5:]), path) for path in found if re.fullmatch(r"step-[0-9]{1,12}", path.stem)]
    return tuple(sorted(steps))


def _read_checkpoint(folder: Path, problems: list[str]) -> tuple[int, dict[str, int] | None]:
    """Step of the newest checkpoint, and how many weights the parts of its model have, from its header."""
    from safetensors import SafetensorError, safe_open

    from models.checkpoints.format import checkpoints_of

    for path in reversed(checkpoints_of(folder)):
        try:
            with safe_open(path, framework="np") as file:
                names = [name for name in file.keys() if name.startswith("ema.")]  # noqa: SIM118 (no dict)
                sizes = {name: math.prod(file.get_slice(name).get_shape()) for name in names}
        except (OSError, SafetensorError) as error:
            problems.append(f"{path}: cannot be read ({error}); the checkpoint before it is used")
            continue
        parts: dict[str, int] = {}
        for name, size in sizes.items():
            part = name.split(".")[1]
            parts[part] = parts.get(part, 0) + size
        return int(path.stem[5:]), parts or None
    return 0, None


def _whole(value: Any) -> int | None:
    """A number of steps, or None."""
    number = _number(value)
    whole = number is not None and number.is_integer() and 0 <= number <= LARGEST_STEP
    return int(number) if whole else None


def _number(value: Any) -> float | None:
    """A JSON number as a float, infinite if it is too large; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
