"""Images of previews for the window."""

import numpy as np
import torch
from jaxtyping import Float, UInt8

from data.images.display import colourise, enlarge, grid
from data.images.pixels import to_uint8
from scripts.view.backend import Preview

RGB, DEPTH, OPACITY, LATENT = KINDS = ("RGB", "Depth", "Opacity", "Latent")
OUTSIDE = 0.95  # brightness beside the square that a sample shows
OPAQUE = 0.5  # opacity from which a surface hides what lies behind it
BEHIND = 100.0  # scene units: a depth behind everything in the scene
PAIR_SIDE = 256  # pixels; smaller images are enlarged by an integer factor to about this side


def picture(preview: Preview, kind: str, channel: int = 0) -> UInt8[torch.Tensor, "h w 3"]:
    """One of `KINDS` of a preview; `channel` selects a channel of the latent image."""
    if kind == RGB:
        return to_uint8(2 * preview.latent[:3] - 1)
    if kind == DEPTH:
        return colourise(preview.depth, preview.near, preview.far)
    return colourise(preview.opacity if kind == OPACITY else preview.latent[channel], 0.0, 1.0)


def backdrop(pixels: UInt8[torch.Tensor, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The background of the window: the image, darker outside the square that a sample covers."""
    height, width = pixels.shape[:2]
    shown = pixels.clone()
    margin = max(0, round((width - height) / 2))
    for beside in (shown[:, :margin], shown[:, width - margin :]):
        beside.copy_((beside * OUTSIDE).round())
    return shown.numpy()


def surface(preview: Preview) -> Float[np.ndarray, "h w"]:
    """A depth map that occludes scene elements behind the object."""
    return torch.where(preview.opacity >= OPAQUE, preview.depth, BEHIND).numpy()


def pair(*pictures: UInt8[torch.Tensor, "h w 3"]) -> UInt8[np.ndarray, "k l 3"]:
    """Images of the same size side by side, enlarged."""
    factor = max(1, round(PAIR_SIDE / len(pictures[0])))
    large = torch.stack([enlarge(one, factor) for one in pictures])
    return grid(large, columns=len(large), gap=8).numpy()


def scale(low: str, high: str) -> str:
    """HTML of the colour bar of `picture`, with labels at its ends."""
    ramp = colourise(torch.linspace(0, 1, 9)[None], 0.0, 1.0)[0].tolist()
    colours = ", ".join("rgb({}, {}, {})".format(*colour) for colour in ramp)
    return (
        '<div style="display:flex;align-items:center;gap:8px;padding:2px 12px;font-size:12px">'
        f'<span>{low}</span><span style="flex:1;height:10px;border-radius:5px;'
        f'background:linear-gradient(to right, {colours})"></span><span>{high}</span></div>'
    )
