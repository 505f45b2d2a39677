"""Migrate configs of older versions, in checkpoints and run directories."""

from typing import Any

DEFAULT_STEPS = 100_000  # default of the older version


def migrate_config(document: Any) -> Any:
    """Migrate a run's config (plain JSON data): schedules in steps become schedules in progress.

    Steps are divided by `train.steps`; a learning rate decay to zero now ends with the run. Anything else is
    unchanged and validated later.
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
    """`decay_from` was the step at which the decay started, null for none, and `decay_steps` its length."""
    begin = old.get("decay_from")
    if "decay_steps" not in old or not isinstance(begin, int | None):
        return old
    new = {key: value for key, value in old.items() if key not in ("decay_from", "decay_steps")}
    if begin is None or begin >= steps:
        return new
    return new | {"schedule": "cosine", "decay_from": begin / steps}


def _noise_in_progress(old: dict[str, Any], steps: int) -> dict[str, Any]:
    """`anneal_steps` was the length of the transition from `start` to `end`, which started at step 0."""
    length = old.get("anneal_steps")
    if not isinstance(length, int):
        return old
    new = {key: value for key, value in old.items() if key != "anneal_steps"}
    return new if new.get("end") is None else new | {"until": min(1.0, length / max(1, steps))}
