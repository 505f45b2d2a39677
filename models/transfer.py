"""First weights from another run: what fits is taken over, and it is said what did not."""

from models.base import NVSModel
from models.checkpoint import Checkpoint


def transfer_weights(model: NVSModel, checkpoint: Checkpoint) -> str:
    """Take over every weight that fits by name and shape, after the model has adapted those it can; returns
    what matched and what did not, for the user.

    Raises ValueError where nothing fits.
    """
    own = model.state_dict()
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
