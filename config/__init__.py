"""Configuration of runs: JSON files with inheritance and `key=value` overrides, strictly validated."""

from data.lazy import lazy_names

# Public name -> module; imported lazily.
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
__getattr__ = lazy_names(__name__, _WHERE)
