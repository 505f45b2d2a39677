"""What a run is: a JSON file, what it extends, and `key=value` changes, checked to the last key."""

from importlib import import_module
from typing import Any

# Public name -> module; imported when it is first asked for.
_WHERE = {
    "RunConfig": "run",
    "TrainConfig": "run",
    "load_config": "run",
    "validate_config": "run",
    "read_document": "documents",
    "merge": "documents",
    "set_key": "documents",
    "split_override": "documents",
    "FAMILIES": "families",
    "family": "families",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
