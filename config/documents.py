"""Config files as plain documents: inheritance by "extends", and `key=value` overrides."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any


def read_document(path: str | Path, overrides: list[str] | None = None) -> dict[str, Any]:
    """Read a JSON file with its parents and `key=value` overrides, without validation.

    Raises ValueError if they cannot be read or are malformed.
    """
    document = _read_with_parents(Path(path), ())
    document.setdefault("name", Path(path).stem)
    for override in overrides or []:
        set_key(document, *split_override(override))
    return document


def split_override(override: str) -> tuple[str, Any]:
    """Split an override "key=value". Raises ValueError if it is malformed."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ValueError(f"'{override}' is not key=value, such as train.steps=1000")
    return key, _parse(text)


def set_key(document: dict[str, Any], key: str, value: Any) -> None:
    """Set a key, such as "train.steps". Raises ValueError if a parent is not a section."""
    *sections, last = key.split(".")
    for section in sections:
        document = document.setdefault(section, {})
        if not isinstance(document, dict):
            raise ValueError(f"{key}: '{section}' is a value, not a section; drop what follows it")
    document[last] = value


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Merge the changes of another document, section by section, into a deep copy."""
    merged = deepcopy(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else deepcopy(value)
    return merged


def differences(before: Any, now: Any, path: str = "", *, missing: Any = None) -> dict[str, tuple[Any, Any]]:
    """Find the keys, such as "train.steps", in which two documents differ, each with both values.

    A key that only one document has counts as `missing` in the other.
    """
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return {} if before == now else {path: (before, now)}
    found: dict[str, tuple[Any, Any]] = {}
    for key in before | now:
        values = before.get(key, missing), now.get(key, missing)
        found |= differences(*values, f"{path}.{key}" if path else key, missing=missing)
    return found


def _read_with_parents(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in children:
        raise ValueError(f'{path}: the file extends itself; remove the cycle of "extends"')
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); give the path of a config file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error}); correct the file") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path}: must hold a JSON object of keys and values")
    parent = document.pop("extends", None)
    if parent is None:
        return document
    if not isinstance(parent, str):
        raise ValueError(f'{path}: "extends" must be the name of a file beside this one')
    inherited = _read_with_parents(path.parent / parent, (*children, path.resolve()))
    return merge(_without_other_family(inherited, document), document)


def _without_other_family(inherited: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return what a document inherits: without the model and its rate factors if the family differs."""
    named, other = _family_of(document), _family_of(inherited)
    if named is None or named == other or "model" not in inherited:
        return inherited
    kept = {key: value for key, value in inherited.items() if key != "model"}
    if isinstance(kept.get("optim"), dict):
        kept["optim"] = {key: value for key, value in kept["optim"].items() if key != "lr_scale"}
    return kept


def _family_of(document: dict[str, Any]) -> Any:
    """Return the family of a document; None if it is inherited."""
    model = document.get("model")
    return model.get("family") if isinstance(model, dict) else None


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
