"""Convert pictures with an embedded ICC colour profile to sRGB, the colour space of all pixels here.

LittleCMS does the conversion (`PIL.ImageCms`, perceptual intent, which for profiles of primaries and curves
is relative colorimetric). Profiles of RGB, grey and CMYK pictures are understood; Lab pictures need none. A
profile that maps every colour to itself, to within a level of 255, leaves the pixels untouched, so that sRGB
files are read bit for bit. A profile that is broken, or that describes other channels than the picture has,
is ignored: the pixels are taken as sRGB, and `profile_problem` says why.

Without a profile, pixels are sRGB. PNG's gAMA and cHRM chunks are not used: programs often write values that
contradict the pixels, and most image libraries ignore them.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

# Colour space of a profile: the mode in which LittleCMS reads the pixels, and the modes that convert to it.
MODES = {
    "RGB": ("RGB", ("RGB", "RGBA", "RGBX", "P", "PA", "L", "LA", "1", "YCbCr")),
    "GRAY": ("L", ("L", "LA", "1")),
    "CMYK": ("CMYK", ("CMYK",)),
}
WITH_ALPHA = ("RGBA", "LA", "PA")
TOLERANCE = 1  # level of 255 by which a profile may differ from sRGB and still count as sRGB
PROBES = 17  # levels of each channel at which the two are compared


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture with the colours of its profile converted to sRGB; the same object where nothing changes.

    A converted picture is RGB, or RGBA where it had an alpha channel, which is kept.
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
    """Why the profile of a picture of this mode is ignored, in a few words; None: it is used, or absent."""
    return _conversion(profile, mode)[1] if profile and mode != "LAB" else None


@lru_cache(maxsize=64)
def _conversion(profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform | None, str | None]:
    """The conversion to sRGB (None: leave the pixels as they are), and why a profile is ignored."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        read, convertible = MODES.get(space, ("", ()))
        if mode not in convertible:
            return None, f"it describes {space} pixels, but the picture is {mode}"
        transform = _to_srgb(source, read)
    # ImportError: a Pillow that was built without LittleCMS.
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError) as error:
        return None, (str(error).splitlines() or [type(error).__name__])[0]
    return (None if _changes_nothing(transform) else transform), None


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return _to_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")


def _to_srgb(source: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    target = ImageCms.createProfile("sRGB")
    # The optimised path interpolates curves of grey between 33 points, which is coarse near black.
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
    return ImageCms.buildTransform(source, target, mode, "RGB", ImageCms.Intent.PERCEPTUAL, flags)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a conversion keeps a grid of colours, to within `TOLERANCE`."""
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
