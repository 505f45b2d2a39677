"""The skeleton of a page: style and script are within, and nothing is fetched from elsewhere."""

from importlib.resources import files

from scripts.common.html.wording import escape


def beginning(
    *, title: str, style: str, images: str = "data:", refresh: float | None = None, made_by: str = ""
) -> str:
    """All up to what stands within `main`; `title` is plain text, `style` is CSS on top of base.css.

    Nothing but pictures from `images` (sources of a content security policy) may be fetched, whatever names
    and configs contain. A browser loads the page anew every `refresh` seconds. `made_by` names the program.
    """
    policy = f"default-src 'none'; img-src {images}; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    again = f'<meta http-equiv="refresh" content="{refresh:g}">' if refresh else ""
    program = f'<meta name="generator" content="{made_by}">' if made_by else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">{again}{program}
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{beside(__name__, "base.css")}
{style}</style>
</head>
<body>
<main>
"""


def ending(*, made_by: str, script: str) -> str:
    """All from the end of what stands within `main`: who made the page, and its `script`."""
    footer = f"<footer>Made by <code>python -m {made_by}</code>.</footer>"
    return "\n".join([footer, "</main>", f"<script>\n{script}</script>", "</body>", "</html>", ""])


def beside(module: str, name: str) -> str:
    """The text of a file in the folder of a module (its `__name__`)."""
    return (files(module.rpartition(".")[0]) / name).read_text(encoding="utf-8")
