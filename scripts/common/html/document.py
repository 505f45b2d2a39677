"""Jinja2 templates for pages that stand alone, rendered with autoescape."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scripts.common.html import wording


def templates(folder: Path) -> Environment:
    """Templates of a page's `folder`, which extend `page.html.j2` beside this file.

    `page.html.j2` wants `title`, `program` (a module's name) and `refresh` (seconds or None), and a style.css
    and a page.js in `folder`. Functions of `wording` are filters; `file(name)` inserts a file as it is.
    """
    loader = FileSystemLoader([folder, Path(__file__).parent])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = ("count", "day", "duration", "megabytes", "number", "plural")
    environment.filters |= {name: getattr(wording, name) for name in names}
    environment.globals["file"] = lambda name: Markup(loader.get_source(environment, name)[0])
    return environment
