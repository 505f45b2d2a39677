"""Prepare an evaluation: the model, the objects with their tasks, and the output folder."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from config.run import RunConfig, validate_config
from data.files import write_text_whole
from data.formats.packed.objects import is_packed
from data.formats.registry import at_root, open_split
from data.images.files import read_picture, write_png
from data.images.pixels import from_uint8, to_uint8
from data.scenes.objects import Objects
from data.splits import Split
from models.base import NVSModel
from models.checkpoints.format import checkpoint_seal, find_checkpoint
from models.checkpoints.loading import load_model
from scripts.evaluate.protocols import (
    CHOICES,
    PROTOCOLS,
    Protocol,
    Task,
    listed_views,
    make_task,
    read_view_list,
)
from scripts.evaluate.quick import mean_image
from scripts.evaluate.records import MEAN_IMAGE, ObjectFolder
from scripts.evaluate.request import EvaluateRequest
from scripts.sampling.jobs import require_options
from scripts.training.messages import tell


@dataclass(frozen=True)
class Evaluation:
    """A model and its evaluation tasks."""

    model: NVSModel
    config: RunConfig  # with the overrides of the command line
    protocol: Protocol
    objects: Objects
    tasks: list[Task]
    folder: Path
    setup: dict[str, Any]  # everything that determines the images of an object
    num_seeds: int

    def folder_of(self, task: Task) -> ObjectFolder:
        """The folder of an object's files."""
        return ObjectFolder(self.folder / "objects" / task.name)


def open_evaluation(request: EvaluateRequest) -> Evaluation:
    """Open the evaluation that a request describes."""
    # Model and data.
    protocol = PROTOCOLS[request.protocol]
    split = request.split or "test"
    model, trained, step = load_model(request.checkpoint)
    config = _with_choices(trained, request, protocol)
    objects = open_split(config.data, split)
    tell(objects.notices, "evaluate")
    count = request.num_objects or len(objects)
    if count > len(objects):
        raise ValueError(f"--objects {count}: the split has {len(objects)}; ask for 1 to that many")

    # A task per object: its input views and its target views.
    views, listed = tuple(request.source_views or protocol.input_views), None
    if request.view_list:
        listed = read_view_list(request.view_list, protocol)
    tasks, choices = [], (request.view_choices or CHOICES) if protocol.masked else ()
    for index in range(count):
        given = listed_views(objects, index, listed, request.view_list) if listed is not None else views
        tasks.append(make_task(objects, index, protocol, given, request.num_views, choices))

    inputs = protocol.shown_inputs if views == protocol.input_views else list(views)

    # Everything that the figures depend on; results of another setup are not resumed.
    setup = {
        "protocol": protocol.name,
        "run": config.name,
        "step": step,
        "checkpoint": checkpoint_seal(find_checkpoint(request.checkpoint)),
        "data": str(Path(config.data.root).resolve()),
        "split": _objects_found(config, protocol, split, objects),
        "input_views": request.view_list.name if request.view_list else inputs,
        "views": request.num_views or "all",
        "image_size": config.data.image_size,
        "depth_scale": config.data.depth_scale,
        "seed": request.seed,
        "sample": config.sample.model_dump(mode="json"),
    }
    if config.data.height != config.data.image_size:
        setup["image_height"] = config.data.height
    if protocol.masked:
        setup |= {"view_choices": list(choices), "antialias": request.antialias}
        setup["dtu"] = config.data.dtu.model_dump(mode="json")
    folder = request.output or _run_folder(request.checkpoint, config) / "evaluation" / protocol.name
    num_seeds = request.num_seeds or request.best_of or 1
    return Evaluation(model, config, protocol, objects, tasks, folder, setup, num_seeds)


def claim(folder: Path, setup: dict[str, Any]) -> None:
    """Reserve the folder for this setup. Raises ValueError if it has another one."""
    path = folder / "setup.json"
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        text = json.dumps(setup, indent=1) + "\n"
        return write_text_whole(path, text)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: is no setup; delete the folder, or choose another --output") from error
    for key, now in setup.items():
        if not isinstance(before, dict) or before.get(key) != now:
            then = before.get(key) if isinstance(before, dict) else before
            raise ValueError(
                f"{path}: was measured with {key} {json.dumps(then)}, now {json.dumps(now)}; delete the "
                "folder, or choose another --output"
            )


def known_mean_image(evaluation: Evaluation) -> tuple[Tensor | None, list[str]]:
    """The mean training image [3, h, w] in 8 bits, cached in the folder; None with a note if unavailable."""
    path, data = evaluation.folder / f"{MEAN_IMAGE}.png", evaluation.config.data
    try:
        found = read_picture(path)
        if found.shape[:2] == (data.height, data.image_size):
            return from_uint8(found), []
    except ValueError:
        pass  # compute it now
    try:
        training = open_split(data, "train")
    except ValueError as error:
        return None, [f"The mean training image is left out: {error}"]
    found = to_uint8(mean_image(training))
    write_png(path, found)
    return from_uint8(found), []


def _with_choices(config: RunConfig, request: EvaluateRequest, protocol: Protocol) -> RunConfig:
    """The run's config with the overrides of the command line. Raises ValueError if they are invalid."""
    document = config.model_dump(mode="json")
    if request.data:
        document["data"] = at_root(config.data, request.data).model_dump(mode="json")
    document["data"] |= {"views": None, "shards": "all"}
    if request.depth_scale is not None:
        document["data"]["depth_scale"] = request.depth_scale
    if protocol.masked:
        document["data"]["dtu"]["held_out"] = "all34"
        if request.missing_masks:
            document["data"]["dtu"]["missing_masks"] = request.missing_masks
    if protocol.layout != "auto" and not is_packed(Path(document["data"]["root"])):
        document["data"]["layout"] = protocol.layout
    require_options(config, request.options)
    document["sample"] |= request.options
    return validate_config(document, "command line")


def _objects_found(config: RunConfig, protocol: Protocol, split: Split, objects: Objects) -> str:
    """The list or the split of the objects; sets without a test split use the val split instead."""
    if split == "test" and protocol.objects:
        return protocol.objects
    if split == "test" and not protocol.masked:  # of DTU, both are the test scenes
        with suppress(ValueError):  # there may be no val split
            held_out = open_split(config.data, "val")
            return "val" if held_out.raw.place(0) == objects.raw.place(0) else "test"
    return split


def _run_folder(checkpoint: str, config: RunConfig) -> Path:
    """The folder of the run that a checkpoint belongs to."""
    path = find_checkpoint(checkpoint)
    return path.parent.parent if path.parent.name == "checkpoints" else config.folder
