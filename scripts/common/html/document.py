"""Jinja2 templates for self-contained pages, rendered with autoescape."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scripts.common import wording


def templates(folder: Path) -> Environment:
    """Load the templates in a page's `folder`, which extend `page.html.j2` next to this file.

    `page.html.j2` needs `title`, `program` (a module's name) and `refresh` (seconds or None), and a style.css
    and a page.js in `folder`. Functions of `wording` are filters; `file(name)` inserts a file verbatim.
    """
    loader = FileSystemLoader([folder, Path(__file__).parent])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = ("count", "day", "duration", "megabytes", "number", "plural")
    environment.filters |= {name: getattr(wording, name) for name in names}
    environment.globals["file"] = lambda name: Markup(loader.get_source(environment, name)[0])
    return environment
