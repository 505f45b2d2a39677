"""Recipes: training stages in one JSON file, each starting from the weights of the previous one.

A recipe is a config with `"stages": {"NAME": {changes}, ...}`. Every stage is a separate run with the
recipe's keys and its own changes, in RUNS/RECIPE/1_NAME, 2_NAME, ... It is initialised with the averaged
weights of the previous stage; optimiser, average and learning rate are reset. A stage that is null is
skipped.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config.documents import merge, read_document, set_key, split_override
from config.run import RunConfig, validate_config
from data.files import write_text_synced

STAGES = "stages"


def load_stages(
    path: str | Path, overrides: list[str] | None = None, *, only: str | None = None
) -> list[RunConfig]:
    """Read the runs in a JSON file, in order: the stages of a recipe, or one run.

    `key=value` overrides apply to every stage, "stages.NAME.key=value" to one with precedence, and
    "transfer=..." to the first; `only` selects a stage by name. Raises ValueError naming file, stage, key and
    remedy.
    """
    document = read_document(path)
    changes = [split_override(change) for change in overrides or []]
    _check_names(changes, document.get(STAGES))
    for key, value in changes:
        set_key(document, key, value)

    # A config without stages is one run.
    stages = document.pop(STAGES, None)
    if stages is None:
        if only:
            raise ValueError(f"{path}: has no stages, so there is no '{only}'; omit --stage")
        return [validate_config(document, str(path))]
    if not isinstance(stages, dict):
        raise ValueError(f'{path}: "stages" must be an object of stages, {{"NAME": {{changes}}, ...}}')
    for name, stage in stages.items():
        if not isinstance(stage, dict | None):
            raise ValueError(
                f"{path}: stages.{name}: must be an object of changes, or null, but is {stage!r}"
            )

    # A document per stage, with the command line's changes on top.
    documents = {
        name: _stage(document, name, stage, number, changes)
        for number, (name, stage) in enumerate(stages.items(), start=1)
        if stage is not None
    }
    if not documents or (only and only not in documents):
        asked = f"no stage '{only}'" if only else "no stage that is not null"
        raise ValueError(f"{path}: has {asked}; its stages are {', '.join(documents) or 'none'}")

    # Each stage starts from the weights of the one before.
    before = document.get("transfer")
    for stage in documents.values():
        stage.setdefault("transfer", before)
        before = str(Path(stage["runs"]) / stage["name"])
    if only and "transfer" in dict(changes):
        documents[only]["transfer"] = document["transfer"]

    # Validate all stages, also those excluded by `only`.
    found = {name: validate_config(stage, f"{path}: stage {name}") for name, stage in documents.items()}
    devices = {stage.train.device for stage in found.values()}
    if len(devices) > 1:
        raise ValueError(f"{path}: train.device: all stages run on one, not on {', '.join(sorted(devices))}")
    return [found[only]] if only else list(found.values())


def write_list(stages: Sequence[RunConfig]) -> None:
    """Write the stages of a recipe and their lengths to its folder, for reports.

    Raises OSError if it cannot be written.
    """
    listed = [{"name": stage.name, "train": {"steps": stage.train.steps}} for stage in stages]
    text = json.dumps({"stages": listed}, indent=2) + "\n"
    write_text_synced(stages[0].folder.parent / "recipe.json", text)


def require_start(stage: RunConfig) -> None:
    """Raise ValueError if the initial weights of a stage do not exist."""
    if stage.recipe and stage.transfer and not Path(stage.transfer).exists():
        raise ValueError(
            f"{stage.name} starts from the weights of {stage.transfer}, which does not exist; train that "
            "stage first, or give transfer=RUN"
        )


def _check_names(changes: list[tuple[str, Any]], stages: Any) -> None:
    """Unknown stage names are an error."""
    for key, _ in changes:
        section, _, rest = key.partition(".")
        name = rest.partition(".")[0]
        if section == STAGES and name not in (stages or {}):
            known = f"its stages are {', '.join(stages)}" if stages else "the config has no stages"
            raise ValueError(f"{key}: there is no stage '{name}'; {known}")


def _stage(
    document: dict[str, Any], name: str, stage: dict[str, Any], number: int, changes: list[tuple[str, Any]]
) -> dict[str, Any]:
    """Return the document of one stage, without an inherited "transfer".

    Overrides for this stage take precedence over those for all.
    """
    for key in ("name", "runs"):
        if key in stage:
            raise ValueError(f"stages.{name}.{key}: belongs to the recipe, not to a stage; move it up")
    recipe = str(document["name"])
    folder = Path(str(document.get("runs", "runs"))) / recipe
    merged = merge({key: value for key, value in document.items() if key != "transfer"}, stage)
    for key, value in changes:
        if key != "transfer" and not key.startswith(f"{STAGES}."):
            set_key(merged, key, value)
    own = f"{STAGES}.{name}."
    for key, value in changes:
        if key.startswith(own):
            set_key(merged, key.removeprefix(own), value)
    return merged | {"name": f"{number}_{name}", "runs": str(folder), "recipe": recipe}
