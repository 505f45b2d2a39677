"""Read arrays (accessors) of a glTF file. Axes: n element, c component.

Normalised integers are converted to floats (glTF 2.0, 3.11), and sparse values are filled in.
"""

from typing import Any

import numpy as np
from jaxtyping import Num
from numpy import ndarray

from data.meshes.gltf.document import Document, entry, whole

COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
MOST_ZEROS = 2**24  # elements of an array without data in the file
CLOSE = 1e-3  # relative to the largest extent: exporters round the bounds


def read_accessor(document: Document, index: Any, kinds: tuple[str, ...]) -> Num[ndarray, "n c"]:
    """Return an accessor's values: floats if it is normalised or float, else integers.

    `kinds` are the allowed types, such as VEC3.
    """
    stored = read_stored(document, index, kinds)
    return unit_range(stored) if document.entry("accessors", index).get("normalized") is True else stored


def read_stored(document: Document, index: Any, kinds: tuple[str, ...]) -> Num[ndarray, "n c"]:
    """Return an accessor's values as stored, with sparse values filled in."""
    accessor, where = document.entry("accessors", index), f"accessors[{index}]"
    kind = accessor.get("type")
    if kind not in kinds:
        raise ValueError(f"{where} is of type {str(kind)[:20]}; {' or '.join(kinds)} is required")
    count, dtype = whole(accessor, "count", where, least=1), _dtype(accessor, where)
    if "bufferView" in accessor:
        values = _read(document, accessor, where, count, WIDTHS[kind], dtype)
    elif count > MOST_ZEROS:
        raise ValueError(f"{where} is {count} zeros without data; the limit is {MOST_ZEROS}")
    else:
        values = np.zeros((count, WIDTHS[kind]), dtype)
    if sparse := entry(accessor, "sparse"):
        place = f"{where}.sparse"
        number = whole(sparse, "count", place, least=1)
        indices, new = entry(sparse, "indices"), entry(sparse, "values")
        rows = _read(document, indices, f"{place}.indices", number, 1, _dtype(indices, place))[:, 0]
        if rows.dtype.kind != "u" or rows.max() >= count:
            raise ValueError(f"{place} changes element {rows.max()} of {count}")
        values = values.copy()
        values[rows] = _read(document, new, f"{place}.values", number, WIDTHS[kind], dtype)
    return values


def unit_range(stored: Num[ndarray, "n c"]) -> Num[ndarray, "n c"]:
    """Convert integers to floats from 0 or -1 to 1; floats are returned unchanged."""
    if stored.dtype.kind == "f":
        return stored
    values = stored / float(np.iinfo(stored.dtype).max)
    return np.maximum(values, -1.0)


def bounds_problem(document: Document, index: Any, stored: Num[ndarray, "n c"]) -> str:
    """Describe how the values violate the file's min and max; "" if they do not."""
    accessor = document.entry("accessors", index)
    try:
        low, high = (np.array(accessor[key], float) for key in ("min", "max"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return ""
    width = stored.shape[1]
    if low.shape != (width,) or high.shape != (width,) or not np.isfinite(stored).all():
        return ""
    # Exporters disagree whether the bounds of normalised integers are the integers or the floats.
    for values in (stored.astype(float), unit_range(stored)):
        found_low, found_high = values.min(0), values.max(0)
        allowed = CLOSE * max(np.ptp(values, axis=0).max(), (high - low).max(), 1e-30)
        if max(abs(found_low - low).max(), abs(found_high - high).max()) <= allowed:
            return ""
    lies, promised = (" to ".join(_tuple(end) for end in ends) for ends in
                      ((stored.min(0), stored.max(0)), (low, high)))  # fmt: skip
    return f"positions are in {lies}, but the file declares {promised} (accessors[{index}])"


def _read(document: Document, place: dict, where: str, count: int, width: int, dtype: np.dtype) -> ndarray:
    """Return `count` rows of `width` numbers from a buffer view, without copying."""
    data, stride = document.view(place.get("bufferView"))
    start = whole(place, "byteOffset", where, default=0)
    stride = stride or width * dtype.itemsize
    end = start + (count - 1) * stride + width * dtype.itemsize
    if end > len(data):
        raise ValueError(f"{where} ends at byte {end} of a buffer view of {len(data)} bytes")
    return np.ndarray((count, width), dtype, data, start, (stride, dtype.itemsize))


def _dtype(place: dict[str, Any], where: str) -> np.dtype:
    component = place.get("componentType")
    if not isinstance(component, int) or component not in COMPONENTS:
        raise ValueError(f"{where}: componentType is {str(component)[:20]}; use one of {[*COMPONENTS]}")
    return np.dtype(COMPONENTS[component])


def _tuple(values: ndarray) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
