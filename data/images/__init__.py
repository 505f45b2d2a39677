"""Images: pixels, files, display, quality metrics."""

from data.lazy import lazy_names

# Public name -> module; imported lazily.
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
__getattr__ = lazy_names(__name__, _WHERE)
