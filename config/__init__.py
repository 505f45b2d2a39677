"""Configuration of runs: JSON files with inheritance and `key=value` overrides, strictly validated.

`quickstart.json` is the config of the demo. The JSON files of a family begin with its name; those of GeNVS
begin with the data set, and those of baselines have a folder. `recipe_*.json` train in several stages. The
schema is in `run` and beside each class that is configured.
"""

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
