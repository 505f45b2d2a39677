"""Texture lookup on the faces of a mesh, at many points at once.

Axes: f face, r point, h and w a texture. Texture coordinates (u, v) run from the lower left corner (0, 0) of
a texture to its upper right (1, 1). Outside, it repeats by default, or as its wrap mode says.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray

Wrap = Literal["repeat", "mirror", "clamp"]  # tile; tile with reflection; extend the border
Wraps = tuple[Wrap, Wrap]  # along u and along v
REPEATED: Wraps = ("repeat", "repeat")
_CODES = {"repeat": 0, "mirror": 1, "clamp": 2}


@dataclass(frozen=True)
class Skin:
    """The textures of a mesh and their mapping to faces."""

    textures: tuple[UInt8[ndarray, "_ _ 4"], ...]  # sRGB and opacity (0 is a hole), first row at the top
    texture_of: Int[ndarray, "f"]  # index of the face's texture, -1 if none
    uv: Float[ndarray, "f 3 2"]  # texture coordinates of the face's corners
    wraps: tuple[Wraps, ...] = ()  # per texture; missing ones repeat


class SkinReader:
    """Texture sampler for one viewing distance, at which image samples are `spacing` apart on the surface.

    Finer textures are mipmapped (repeatedly averaged over 2 x 2 texels) to avoid aliasing. `holed` says for
    each face whether its texture has holes.
    """

    def __init__(self, skin: Skin, corners: Float[ndarray, "f 3 3"], *, spacing: float):
        wanted = np.stack([skin.texture_of, _halvings(skin, corners, spacing)], axis=1)
        pages, page_of = np.unique(wanted, axis=0, return_inverse=True)
        pictures = [_page(skin, number, times) for number, times in pages.tolist()]
        page_of = page_of.ravel()
        self.holed = np.array([bool((picture[..., 3] < 255).any()) for picture in pictures])[page_of]
        self._uv, self._page_of = skin.uv, page_of
        self._wraps = np.array([_wrap_codes(skin, number) for number, _ in pages.tolist()])
        self._rows, self._columns = np.array([picture.shape[:2] for picture in pictures]).T
        # Halves of odd sizes are rounded up, without enlarging the texture itself.
        full = [skin.textures[n].shape[1::-1] if n >= 0 else (1, 1) for n, _ in pages.tolist()]
        self._size = np.array(full, float) / 2.0 ** pages[:, 1:]
        self._start = np.cumsum([0] + [picture.shape[0] * picture.shape[1] for picture in pictures[:-1]])
        self._texels = np.concatenate([picture.reshape(-1, 4) for picture in pictures])

    def read(self, faces: Int[ndarray, "r"], inside: Float[ndarray, "r 2"]) -> Float[ndarray, "r 4"]:
        """Return bilinear colour and opacity, 0 to 255; white on faces without texture.

        `inside` are barycentric coordinates: the weights of the second and third corner of the face.
        """
        uv = self._uv[faces]
        uv = uv[:, 0] + ((uv[:, 1:] - uv[:, :1]) * inside[..., None]).sum(1)
        page = self._page_of[faces]
        mixed = self._bilinear(page, _folded(uv, self._wraps[page]))
        mixed[:, :3] *= 255 / np.maximum(mixed[:, 3:], 1)
        return mixed

    def _bilinear(self, page: Int[ndarray, "r"], uv: Float[ndarray, "r 2"]) -> Float[ndarray, "r 4"]:
        size = self._size[page]
        x, y = uv[:, 0] * size[:, 0] - 0.5, (1 - uv[:, 1]) * size[:, 1] - 0.5
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        right_share, lower_share = (x - left)[:, None], (y - top)[:, None]
        columns, rows, start = self._columns[page], self._rows[page], self._start[page]
        over_u, over_v = (self._wraps[page] == _CODES["repeat"]).T
        left, right = _neighbour(left, columns, over_u), _neighbour(left + 1, columns, over_u)
        upper = start + _neighbour(top, rows, over_v) * columns
        lower = start + _neighbour(top + 1, rows, over_v) * columns
        above = self._texels[upper + left] * (1 - right_share) + self._texels[upper + right] * right_share
        below = self._texels[lower + left] * (1 - right_share) + self._texels[lower + right] * right_share
        return above * (1 - lower_share) + below * lower_share


def _wrap_codes(skin: Skin, number: int) -> tuple[int, int]:
    along_u, along_v = skin.wraps[number] if 0 <= number < len(skin.wraps) else REPEATED
    return _CODES[along_u], _CODES[along_v]


def _folded(uv: Float[ndarray, "r 2"], wraps: Int[ndarray, "r 2"]) -> Float[ndarray, "r 2"]:
    """Apply the wrap modes to texture coordinates."""
    folded = uv - np.floor(uv)
    if wraps.any():
        there_and_back = uv - 2 * np.floor(uv / 2)
        mirrored = np.minimum(there_and_back, 2 - there_and_back)
        folded = np.choose(wraps, [folded, mirrored, np.clip(uv, 0, 1)])
    return folded


def _neighbour(
    place: Int[ndarray, "r"], count: Int[ndarray, "r"], repeats: Bool[ndarray, "r"]
) -> Int[ndarray, "r"]:
    """Wrap or clamp row or column indices to the texture."""
    return np.where(repeats, place % count, np.clip(place, 0, count - 1))


def _page(skin: Skin, number: int, times: int) -> UInt8[ndarray, "_ _ 4"]:
    """Return a mipmap level with premultiplied alpha, so that holes do not bleed."""
    from PIL import Image

    if number < 0:
        return np.full((1, 1, 4), 255, np.uint8)
    return np.asarray(Image.fromarray(skin.textures[number]).convert("RGBa").reduce(2**times))


def _halvings(skin: Skin, corners: Float[ndarray, "f 3 3"], spacing: float) -> Int[ndarray, "f"]:
    """Return the mipmap level of each face at which its texels are about `spacing` wide."""
    if not skin.textures:
        return np.zeros(len(corners), int)
    sizes = np.array([texture.shape[1::-1] for texture in skin.textures])
    edges = (skin.uv[:, 1:] - skin.uv[:, :1]) * sizes[skin.texture_of][:, None]
    texels = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0])
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    per_sample = np.sqrt(texels / np.maximum(area, 1e-12)) * spacing
    halvings = np.round(np.log2(np.maximum(per_sample, 1))).astype(int)
    most = np.floor(np.log2(sizes.max(1))).astype(int)[skin.texture_of]
    return np.where(skin.texture_of >= 0, np.minimum(halvings, most), 0)
