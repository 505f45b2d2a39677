"""Photos as input: reading, cropping and background removal."""

from data.lazy import lazy_names

# Public name -> module; imported lazily.
_WHERE = {
    "read_photos": "photos",
    "framed_views": "photos",
    "orbit_cameras": "photos",
}
__getattr__ = lazy_names(__name__, _WHERE)
