"""Write packed files: one per object, then joined into the files of a split.

Each is written atomically: to a temporary sibling that is checked, synced and renamed. See
`data.formats.packed.file` for the format and `data.formats.packed.objects` for the file names.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.files import write_synced
from data.formats.packed.file import DTYPES, FORMAT, KINDS, Entry, Index, PackedFile, Rows, checksum
from data.formats.srn.layout import DEPTH_STEPS
from data.images.pixels import area_means, resize_area
from data.scenes.objects import RawObjects
from data.splits import Split

Shapes = dict[str, tuple[torch.dtype, torch.Size]]  # of the tensors of a file, by name
Blocks = Callable[[str], Iterable[Tensor]]  # the rows of a tensor, in pieces
ALIGNMENT = 64  # bytes, of the offset of the tensors
CAMERAS = {"poses": 4, "intrinsics": 3}  # and their matrix sizes
TYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_object(
    path: Path, raw: RawObjects, index: int, *, split: Split, image_size: int | None = None
) -> None:
    """Write one object to a file, its pixels area-resized to squares of `image_size` unless that is None.

    Raises ValueError if the object cannot be read, OSError if the file cannot be written.
    """
    num_views = raw.num_views(index)
    poses, intrinsics = raw.cameras(index)
    tensors, rows = {"poses": [*poses], "intrinsics": [*intrinsics]}, {}
    for kind in KINDS:
        pixels = [getattr(raw, kind)(index, view) for view in range(num_views)]
        if all(values is None for values in pixels):
            continue
        if kind == "alpha":  # only some images of a scene may have transparency
            pixels = [
                _opaque(raw.picture(index, view)) if values is None else values
                for view, values in enumerate(pixels)
            ]
        if any(values is None for values in pixels):
            raise ValueError(
                f"{raw.place(index)}: has {kind} for some views only; restore the others or remove {kind}/"
            )
        rows[kind] = _place(kind, [_stored(kind, values, image_size) for values in pixels], tensors)
    blocks = {name: torch.stack(values) for name, values in tensors.items()}
    # In the order of the reader's checksum.
    parts = [blocks[r.tensor][r.first : r.first + r.count] for kind in KINDS for r in rows.get(kind, ())]
    crc32 = checksum([blocks["poses"], blocks["intrinsics"], *parts])
    names = raw.names(index)
    entry = Entry(id=raw.ids[index], names=names, views=num_views, crc32=crc32, **rows)
    found = Index(split=split, image_size=image_size, objects=(entry,))
    shapes = {name: (block.dtype, block.shape) for name, block in blocks.items()}
    _write(path, lambda name: [blocks[name]], shapes, found, verify=False)


def holds(file: PackedFile, number: int, raw: RawObjects, index: int) -> bool:
    """Whether an object of a file matches the current object of a data set.

    Compares the cameras, and the pixels of the first and the last view. Raises ValueError if the object
    cannot be read.
    """
    entry = file.index.objects[number]
    if (entry.id, entry.names, entry.views) != (raw.ids[index], raw.names(index), raw.num_views(index)):
        return False
    if not all(map(torch.equal, file.cameras(number), raw.cameras(index))):
        return False
    for view, kind in product({0, entry.views - 1}, KINDS):
        written, values = file.pixels(kind, number, view), getattr(raw, kind)(index, view)
        if kind == "alpha" and values is None and written is not None:
            values = _opaque(raw.picture(index, view))
        if written is None or values is None:
            if written is not values:
                return False
            continue
        stored = _stored(kind, values, file.index.image_size)
        if stored.dtype != written.dtype or not torch.equal(stored, written):
            return False
    return True


def join(path: Path, parts: Sequence[Path], index: Index, *, verify: bool = True) -> None:
    """Join the objects of some files, in order, into one file; `index` gives the rest of its index.

    With `verify`, the file is read back and its checksums are compared before it is renamed. Raises
    ValueError if a part is damaged, OSError if the file cannot be written.
    """
    shapes: Shapes = {name: (torch.float32, torch.Size([0, n, n])) for name, n in CAMERAS.items()}
    entries: list[Entry] = []
    for part in parts:
        file = PackedFile(part)  # one at a time: a process may not open thousands of files
        first = {name: shape[0] for name, (_, shape) in shapes.items()}
        entries += [_moved(entry, first) for entry in file.index.objects]
        for name, tensor in file.tensors.items():
            size = torch.Size([first.get(name, 0) + len(tensor), *tensor.shape[1:]])
            shapes[name] = (tensor.dtype, size)

    def blocks(name: str) -> Iterator[Tensor]:
        for part in parts:
            tensor = PackedFile(part).tensors.get(name)
            if tensor is not None:
                yield tensor

    whole = index.model_copy(update={"objects": tuple(entries)})
    _write(path, blocks, shapes, whole, verify=verify)


def _moved(entry: Entry, first: dict[str, int]) -> Entry:
    """Shift the rows of an entry behind those already in the tensors."""
    moved = {
        kind: tuple(
            r.model_copy(update={"first": r.first + first.get(r.tensor, 0)}) for r in entry.rows(kind)
        )
        for kind in KINDS
    }
    return entry.model_copy(update=moved)


def _opaque(picture: UInt8[Tensor, "h w 3"]) -> UInt8[Tensor, "h w"]:
    return torch.full_like(picture[..., 0], 255)


def _place(kind: str, pixels: list[Tensor], tensors: dict[str, list[Tensor]]) -> tuple[Rows, ...]:
    """Append the pixels of each view to the tensor of its size and type."""
    rows: list[Rows] = []
    for values in pixels:
        name = f"{kind}_{values.shape[0]}x{values.shape[1]}"
        if kind == "depth":
            name += f"_{TYPE_NAMES[values.dtype]}"
        column = tensors.setdefault(name, [])
        if rows and rows[-1].tensor == name:
            rows[-1] = rows[-1].model_copy(update={"count": rows[-1].count + 1})
        else:
            rows.append(Rows(tensor=name, first=len(column), count=1))
        column.append(values)
    return tuple(rows)


def _stored(kind: str, values: Tensor, size: int | None) -> Tensor:
    """Convert pixels to the file's format."""
    if kind == "picture":
        return values if size is None else resize_area(values, size, size)
    if kind == "alpha":
        means = values.numpy() if size is None else area_means(values.numpy(), size, size).round()
        return torch.from_numpy(means).to(torch.uint8)
    return _compact(values if size is None else _shrunk_depth(values, size))


def _shrunk_depth(depth: Float[Tensor, "h w"], size: int) -> Float[Tensor, "k k"]:
    """Average the valid depths; pixels without any have no depth."""
    met = (depth > 0).to(depth)
    total, covered = (area_means(values.numpy(), size, size) for values in (depth * met, met))
    return torch.from_numpy(total).to(depth) / torch.from_numpy(covered).to(depth).clamp_min(1e-6)


def _compact(depth: Float[Tensor, "h w"]) -> Tensor:
    """Convert depth to 16 bits if that is lossless, otherwise keep the floats."""
    steps = (depth * DEPTH_STEPS).round()
    fits = bool((steps >= 0).all() and (steps < 2**16).all())
    return steps.to(torch.uint16) if fits and torch.equal(steps / DEPTH_STEPS, depth) else depth


def _write(path: Path, blocks: Blocks, shapes: Shapes, index: Index, *, verify: bool) -> None:
    def fill(unfinished: Path) -> None:
        with unfinished.open("wb") as file:
            file.write(_header(shapes, index))
            for name in _in_order(shapes):
                for block in blocks(name):
                    file.write(memoryview(block.contiguous().flatten().view(torch.uint8).numpy()))
        if verify:
            written = PackedFile(unfinished)
            for number in range(len(written)):
                written.verify(number)

    write_synced(path, fill)


def _header(shapes: Shapes, index: Index) -> bytes:
    text = index.model_dump_json(exclude_defaults=True)
    metadata = {"format": FORMAT, "index": text, "index_crc32": str(zlib.crc32(text.encode()))}
    table: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name in _in_order(shapes):
        dtype, shape = shapes[name]
        begin, end = end, end + shape.numel() * dtype.itemsize
        table[name] = {"dtype": TYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    header = json.dumps(table).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    return len(header).to_bytes(8, "little") + header


def _in_order(shapes: Shapes) -> list[str]:
    """Order the tensors by element size, largest first, so that all are aligned."""
    return sorted(shapes, key=lambda name: (-shapes[name][0].itemsize, name))
