"""Convert images with an embedded ICC colour profile to sRGB, the colour space used throughout.

Conversion is by LittleCMS (`PIL.ImageCms`, perceptual intent, which for matrix/curve profiles is relative
colorimetric). RGB, grey and CMYK profiles are supported; Lab images need none. A profile that is the identity
to within one level of 255 is skipped, so that sRGB files are read bit for bit. A profile that is broken or
does not match the image's channels is ignored: pixels are taken as sRGB, and `profile_problem` gives the
reason.

Without a profile, pixels are sRGB. PNG's gAMA and cHRM chunks are not used: they are often wrong, and most
image libraries ignore them.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from data.files import first_line

# Colour space of a profile: the mode in which LittleCMS reads the pixels, and the modes convertible to it.
MODES = {
    "RGB": ("RGB", ("RGB", "RGBA", "RGBX", "P", "PA", "L", "LA", "1", "YCbCr")),
    "GRAY": ("L", ("L", "LA", "1")),
    "CMYK": ("CMYK", ("CMYK",)),
}
WITH_ALPHA = ("RGBA", "LA", "PA")
TOLERANCE = 1  # levels of 255 by which a profile may differ from sRGB and still count as sRGB
PROBES = 17  # levels of each channel at which they are compared


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image from its profile to sRGB; returns the same object if nothing changes.

    The result is RGB, or RGBA with the alpha channel kept.
    """
    if image.mode == "LAB":
        return _lab_to_srgb().apply(image)
    if not profile:
        return image
    transform, _ = _conversion(profile, image.mode)
    if transform is None:
        return image
    mode = transform.input_mode
    converted = transform.apply(image if image.mode == mode else image.convert(mode))
    if image.mode in WITH_ALPHA:
        converted.putalpha(image.getchannel("A"))
    return converted


def profile_problem(profile: bytes | None, mode: str) -> str | None:
    """Return why the profile of an image of this mode is ignored; None if it is used or absent."""
    return _conversion(profile, mode)[1] if profile and mode != "LAB" else None


@lru_cache(maxsize=64)
def _conversion(profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform | None, str | None]:
    """Return the conversion to sRGB (None for the identity), and why a profile is ignored, if so."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        read, convertible = MODES.get(space, ("", ()))
        if mode not in convertible:
            return None, f"it describes {space} pixels, but the image is {mode}"
        transform = _to_srgb(source, read)
    # ImportError: Pillow was built without LittleCMS.
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError) as error:
        return None, first_line(error)
    return (None if _changes_nothing(transform) else transform), None


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return _to_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")


def _to_srgb(source: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    target = ImageCms.createProfile("sRGB")
    # The optimised path interpolates grey curves between 33 points, which is coarse near black.
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
    return ImageCms.buildTransform(source, target, mode, "RGB", ImageCms.Intent.PERCEPTUAL, flags)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a conversion is the identity on a grid of colours, to within `TOLERANCE`."""
    if transform.input_mode == "CMYK":
        return False
    if transform.input_mode == "L":
        colours = np.arange(256, dtype=np.uint8)[None]
        expected = np.repeat(colours[..., None], 3, axis=2)
    else:
        levels = np.linspace(0, 255, PROBES).round().astype(np.uint8)
        colours = expected = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    converted = np.asarray(transform.apply(Image.fromarray(colours))).astype(int)
    return bool(np.abs(converted - expected).max() <= TOLERANCE)
