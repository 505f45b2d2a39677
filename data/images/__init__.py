"""Images: pixels, files, display, quality."""

from importlib import import_module
from typing import Any

# Public name -> module; imported when it is first asked for.
_WHERE = {
    "to_uint8": "pixels",
    "from_uint8": "pixels",
    "resize_area": "pixels",
    "resize_bicubic": "pixels",
    "read_picture": "files",
    "write_png": "files",
    "write_mp4": "files",
    "colourise": "display",
    "enlarge": "display",
    "grid": "display",
    "psnr": "quality",
    "ssim": "quality",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
