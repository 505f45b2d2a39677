"""A user's own photos."""

from importlib import import_module
from typing import Any

# Public name -> module; imported when it is first asked for.
_WHERE = {
    "read_photos": "photos",
    "framed_views": "photos",
    "orbit_cameras": "photos",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
