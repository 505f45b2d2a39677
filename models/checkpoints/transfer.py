"""Transfer weights from another run: those that fit are loaded, and the others reported."""

import json
from typing import Any

from config.documents import differences
from config.families import family
from config.legacy import migrate_config
from config.run import RunConfig
from models.base import NVSModel, own_state
from models.checkpoints.format import Checkpoint

GEOMETRY = ("object_radius", "resampling")  # keys of the data that change what a model sees


def transfer_weights(model: NVSModel, checkpoint: Checkpoint) -> str:
    """Load every weight that fits by name and shape, after the model has adapted those it can.

    Returns a report for the user on what matched and what did not. Raises ValueError if nothing fits.
    """
    own = own_state(model)
    given, adapted = model.adapt(checkpoint.best_weights())
    fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
    if not fitting:
        raise ValueError(
            f"transfer: {checkpoint.path} has no weight that fits this model; check model.* in the config"
        )
    model.load_state_dict(fitting, strict=False)
    report = [
        f"transfer: {len(fitting)} of {len(own)} tensors from {checkpoint.path} (step {checkpoint.step})"
    ]
    report += [f"  {line}" for line in adapted]
    groups = {
        "kept as initialised (not in the file)": sorted(own.keys() - given.keys()),
        "kept as initialised (other shape in the file)": sorted((own.keys() & given.keys()) - fitting.keys()),
        "in the file, but not in the model": sorted(given.keys() - own.keys()),
    }
    for title, names in groups.items():
        if names:
            report.append(
                f"  {title}: {len(names)}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
            )
    return "\n".join(report)


def model_differences(checkpoint: Checkpoint, config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Find the keys by which a checkpoint's model computes something else than that of `config`.

    Each has both values. Of a partial model, only known keys are compared. Keys that only affect training or
    resources are ignored.
    """
    found = _differences_from(checkpoint, config)
    data = checkpoint.config.get("data")
    if isinstance(data, dict):
        known = {key: data[key] for key in GEOMETRY if key in data}
        found |= differences(known, {key: getattr(config.data, key) for key in known}, "data")
    kind = family(config.model.family)
    counting = _without(found, kind.training_settings + kind.resource_settings)
    return {key: values for key, values in counting.items() if not (checkpoint.partial and values[0] is None)}


def resuming_differences(checkpoint: Checkpoint, config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Find what keeps a run from resuming: keys of the model that changed, each with both values."""
    return _without(_differences_from(checkpoint, config), family(config.model.family).resource_settings)


def described(key: str, values: tuple[Any, Any]) -> str:
    """Describe a difference in words."""
    before, now = map(json.dumps, values)
    return f"{key} ({before}, now {now})"


def _differences_from(checkpoint: Checkpoint, config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The keys in which a checkpoint's model differs from that of `config`, sorted."""
    theirs, ours = migrate_config(checkpoint.config).get("model"), config.model.model_dump(mode="json")
    found = differences(theirs if checkpoint.partial else _completed(theirs), ours, "model")
    return dict(sorted(found.items()))


def _without(differences: dict[str, tuple[Any, Any]], ignored: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    """The differences outside the `ignored` keys and sections."""
    return {
        key: values
        for key, values in differences.items()
        if not any(f"{key}.".startswith(f"{name}.") for name in ignored)
    }


def _completed(model: Any) -> Any:
    """Fill in the defaults of keys that a model's config lacks, such as one of an older version."""
    try:
        return family(str(model["family"])).Config.model_validate(model).model_dump(mode="json")
    except (ValueError, KeyError, TypeError):
        return model
