"""One-line messages for invalid configs: the key, the problem and the remedy."""

import json
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from config.families import DEFAULT, FAMILIES, family

# Prefix of pydantic's error type -> what the value must be; {} are filled from the error's context.
MUST = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string_type": "text",
    "literal_error": "{expected}",
    "tuple": "a list",
    "list": "a list",
    "dict": "a section of keys and values",
    "model_type": "a section of keys and values",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} or fewer",
}
SHOWN = 80  # characters of a value


def first_problem(error: ValidationError, config: type[BaseModel], family_name: Any) -> str:
    """Describe the first error in a document for `config`, with a model of `family_name` if given."""
    problem = error.errors(include_url=False)[0]
    key, entry, inner = _place(problem["loc"])
    fields = known_fields(config, family_name if family_name in list(FAMILIES) else DEFAULT)
    if problem["type"] == "extra_forbidden":
        close = _alike(key, list(fields))
        return f"unknown key '{key}'" + (f"; did you mean '{close}'?" if close else "; remove it")
    if problem["type"] == "missing" and not entry:
        return f"key '{key}' is missing; add it"
    if inner:  # in a ramp in a list
        return f"{key}: {entry}'{inner}' {_complaint(problem, None)}"
    return f"{key}: {entry}{_complaint(problem, fields.get(key))}"


def _place(location: tuple[str | int, ...]) -> tuple[str, str, str]:
    """Return a key and, for a list, the entry in words and the key within it."""
    number = next((at for at, part in enumerate(location) if isinstance(part, int)), len(location))
    key, inner = (".".join(map(str, part)) for part in (location[:number], location[number + 1 :]))
    return key, f"entry {location[number] + 1} " if number < len(location) else "", inner


def _complaint(problem: ErrorDetails, field: FieldInfo | None) -> str:
    """Describe what is wrong with a value, the value, and the default of its field."""
    if problem["type"] == "missing":
        return f"is missing{_default(field)}"
    if problem["type"] == "value_error":
        message, value = problem["msg"].removeprefix("Value error, "), problem["input"]
        # For keys that contradict each other, the message includes the values.
        mentioned = isinstance(value, dict) or (isinstance(value, str) and value and value in message)
        return message if mentioned else f"{message}, but is {_shown(value)}"
    beginning = next((name for name in MUST if problem["type"].startswith(name)), None)
    if beginning is None:
        must = problem["msg"].replace("Input should", "must").replace("\n", " ")
    else:
        figures = {
            name: f"{figure:g}" if isinstance(figure, float) else figure
            for name, figure in problem.get("ctx", {}).items()
        }
        several = "one of " if " or " in str(figures.get("expected", "")) else ""
        must = "must be " + several + MUST[beginning].format_map(figures)
    if beginning == "literal_error":
        close = get_close_matches(str(problem["input"]), _choices(field), n=1)
        must += f" (did you mean '{close[0]}'?)" if close else ""
    if field is not None and type(None) in get_args(field.annotation):
        must += ", or null"
    return f"{must}, but is {_shown(problem['input'])}{_default(field)}"


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)[:SHOWN]


def _default(field: FieldInfo | None) -> str:
    if field is None or field.default is PydanticUndefined or isinstance(field.default, BaseModel):
        return ""
    return f"; the default is {_shown(field.default)}"


def _choices(field: FieldInfo | None) -> list[str]:
    """Return the allowed words of a field."""
    if field is None:
        return []
    nested = [choice for part in get_args(field.annotation) for choice in (part, *get_args(part))]
    return [choice for choice in nested if isinstance(choice, str)]


def _alike(unknown: str, known: list[str]) -> str | None:
    """Return the most similar known key: in the same section, else with a similar name in another."""
    section, _, name = unknown.rpartition(".")
    beside = [key for key in known if key.rpartition(".")[0] == section]
    for candidates in (beside, known):
        names = [key.rpartition(".")[2] for key in candidates]
        close = get_close_matches(name, names, n=1)
        if close:
            return candidates[names.index(close[0])]
    return None


def known_fields(config: type[BaseModel], family_name: str) -> dict[str, FieldInfo]:
    """Return the fields of all keys in all sections, shallow ones first."""
    sections: list[tuple[str, type[BaseModel]]] = [("", config), ("model.", family(family_name).Config)]
    fields: dict[str, FieldInfo] = {}
    for prefix, section in sections:  # grows during iteration
        for name, field in section.model_fields.items():
            fields.setdefault(f"{prefix}{name}", field)
            for kind in (field.annotation, *get_args(field.annotation)):  # for a number or a ramp, the ramp
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    sections.append((f"{prefix}{name}.", kind))
    return fields
