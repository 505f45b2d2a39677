"""Configs that an older version wrote, in today's keys: they lie in checkpoints and in run directories."""

from typing import Any

DEFAULT_STEPS = 100_000  # of the older version


def migrate_config(document: Any) -> Any:
    """A run's config, as plain JSON data, with schedules in progress where they were in steps.

    They are divided by `train.steps`; a fall of the learning rate to zero now ends with the run. What is not
    as the older version wrote it stays as it is and is validated later.
    """
    if not isinstance(document, dict):
        return document
    train, model, optim = (document.get(name) for name in ("train", "model", "optim"))
    steps = train.get("steps", DEFAULT_STEPS) if isinstance(train, dict) else DEFAULT_STEPS
    changed: dict[str, Any] = {}
    if isinstance(steps, int) and isinstance(optim, dict):
        changed["optim"] = _in_progress(optim, steps)
    if isinstance(steps, int) and isinstance(model, dict) and isinstance(model.get("noise"), dict):
        changed["model"] = model | {"noise": _noise_in_progress(model["noise"], steps)}
    return document | changed


def _in_progress(old: dict[str, Any], steps: int) -> dict[str, Any]:
    """`decay_from` was the step at which the fall began, null for none, and `decay_steps` its length."""
    begin = old.get("decay_from")
    if "decay_steps" not in old or not isinstance(begin, int | None):
        return old
    new = {key: value for key, value in old.items() if key not in ("decay_from", "decay_steps")}
    if begin is None or begin >= steps:
        return new
    return new | {"schedule": "cosine", "decay_from": begin / steps}


def _noise_in_progress(old: dict[str, Any], steps: int) -> dict[str, Any]:
    """`anneal_steps` was the length of the way from `start` to `end`, which began at step 0."""
    length = old.get("anneal_steps")
    if not isinstance(length, int):
        return old
    new = {key: value for key, value in old.items() if key != "anneal_steps"}
    return new if new.get("end") is None else new | {"until": min(1.0, length / max(1, steps))}
