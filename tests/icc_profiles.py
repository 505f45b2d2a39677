"""Small ICC profiles (version 2) written from the format's specification, ICC.1:2001-04."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
D65_XY = (0.3127, 0.3290)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))  # chromaticities of red, green, blue
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The matrix from linear RGB with a white of D65 to XYZ."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    return columns * np.linalg.solve(columns, _white(D65_XY))


def srgb_encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light, 0 to 1, as sRGB levels, 0 to 255."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_decoded(levels: np.ndarray) -> np.ndarray:
    """The inverse of `srgb_encoded`."""
    values = np.asarray(levels) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def rgb_profile(primaries: tuple[tuple[float, float], ...], gamma: float | None = None) -> bytes:
    """Primaries with a white of D65, and a power law, or sRGB's curve."""
    # Profiles are relative to D50.
    cone, white = np.linalg.inv(BRADFORD), BRADFORD @ _white(D65_XY)
    adapted = cone @ np.diag(BRADFORD @ np.array(D50) / white) @ BRADFORD @ to_xyz(primaries)
    curve = _gamma(gamma) if gamma else _table(srgb_decoded(np.linspace(0, 255, 1024)))
    tags = {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), adapted.T, strict=True)}
    return _profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def grey_profile(gamma: float) -> bytes:
    """A power law."""
    return _profile(b"GRAY", {b"kTRC": _gamma(gamma)})


def cmyk_profile(lightness: np.ndarray) -> bytes:
    """Inks that make greys: CIE L* (0 to 100) of the 16 mixtures without and with all of C, M, Y, K."""
    identity = bytes(range(256))
    lab = np.stack([np.round(lightness.reshape(16) * 2.55), np.full(16, 128), np.full(16, 128)], axis=1)
    matrix = struct.pack(">9i", *(np.eye(3, dtype=int) * 65536).flatten().tolist())
    content = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix
    content += identity * 4 + lab.astype(np.uint8).tobytes() + identity * 3
    return _profile(b"CMYK", {b"A2B0": content}, connection=b"Lab ", kind=b"prtr")


def _white(xy: tuple[float, float]) -> np.ndarray:
    return np.array([xy[0] / xy[1], 1, (1 - xy[0] - xy[1]) / xy[1]])


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _table(values: np.ndarray) -> bytes:
    table = np.round(values * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(table)) + table.tobytes()


def _profile(space: bytes, tags: dict[bytes, bytes], *, connection=b"XYZ ", kind=b"mntr") -> bytes:
    description = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {
        b"desc": description,
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz(np.array(D50)),
    } | tags
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    size = start + len(content)
    header = struct.pack(">I4sI4s4s4s", size, b"    ", 0x02400000, kind, space, connection) + bytes(12)
    header += b"acsp" + bytes(28) + struct.pack(">3i", *(round(v * 65536) for v in D50))
    return header.ljust(128, b"\0") + table + content
