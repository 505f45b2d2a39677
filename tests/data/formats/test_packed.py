"""Packed sets give what folders give to the last bit, and notice files that are not as they were written."""

import json
import math
import multiprocessing
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from data.config import DataConfig
from data.formats.packed.file import Index, PackedFile
from data.formats.packed.objects import PackedObjects, open_packed
from data.formats.packed.writer import holds, join, write_object
from data.formats.registry import LAYOUTS, open_raw, open_split
from data.scenes.loader import SceneLoader
from data.scenes.objects import Objects, RawObjects


def plant_surface(folder: Path, *, alpha: bool = True, finest: int = 65535) -> None:
    """Depth of 16 bits and alpha beside the pictures of an object, different for each view."""
    rng = np.random.RandomState(len(folder.name))
    for picture in sorted((folder / "rgb").iterdir()):
        width, height = Image.open(picture).size
        depth = rng.randint(0, finest + 1, (height, width)).astype(np.uint16)
        depth[rng.rand(height, width) < 0.3] = 0
        kinds = {"depth": depth}
        if alpha:
            kinds["alpha"] = rng.randint(0, 256, (height, width)).astype(np.uint8)
        for kind, values in kinds.items():
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(values).save(folder / kind / picture.name)


@pytest.fixture
def root(tmp_path, plant_object) -> Path:
    """Objects of several sizes, some with depth and alpha; one has pictures of two sizes, and back again."""
    sizes = {"a": (6, 6), "bb": (5, 9), "ccc": (6, 6), "dddd": (3, 4), "eeeee": (6, 6)}
    for number, (name, size) in enumerate(sizes.items()):
        plant_object(tmp_path / "folder/cars_train" / name, num_views=4 + number, size=size)
    plant_surface(tmp_path / "folder/cars_train/bb")
    plant_surface(tmp_path / "folder/cars_train/ccc", alpha=False)
    odd = tmp_path / "folder/cars_train/eeeee/rgb/000003.png"
    Image.open(odd).resize((7, 2)).save(odd)
    plant_object(tmp_path / "folder/cars_val/other", num_views=3)
    return tmp_path / "folder"


def pack(root: Path, output: Path, *, split: str = "train", shards: int = 1, **changes) -> Path:
    """Pack as the program does, in this process."""
    raw = open_raw(root, split)
    for shard in range(shards):
        parts = [
            output / f"part{i}" for i in range(shard * len(raw) // shards, (shard + 1) * len(raw) // shards)
        ]
        for part in parts:
            write_object(part, raw, int(part.name[4:]), split=split, **changes)
        name = split if shards == 1 else f"{split}-{shard:05d}-of-{shards:05d}"
        index = Index(split=split, shard=shard, shards=shards, objects=(), **changes)
        join(output / f"{name}.safetensors", parts, index)
        for part in parts:
            part.unlink()
    return output


@pytest.fixture
def packed(root, tmp_path) -> Path:
    pack(root, tmp_path / "packed", split="val")
    return pack(root, tmp_path / "packed")


def assert_same(one: RawObjects, other: RawObjects) -> None:
    assert one.ids == other.ids
    for index in range(len(one)):
        assert one.num_views(index) == other.num_views(index)
        assert one.names(index) == other.names(index)
        for left, right in zip(one.cameras(index), other.cameras(index), strict=True):
            assert torch.equal(left, right)
        for view in range(one.num_views(index)):
            for kind in ("picture", "depth", "alpha"):
                left, right = (getattr(raw, kind)(index, view) for raw in (one, other))
                assert (left is None) == (right is None)
                assert left is None or (left.dtype == right.dtype and torch.equal(left, right))


def tensors(batch) -> list[torch.Tensor]:
    found = []
    batch.apply(lambda tensor: found.append(tensor) or tensor)
    return found


def make_loader(root: Path, *, rank=0, world=1, batch=2, geometry=False, **changes) -> SceneLoader:
    config = DataConfig(**{"root": str(root), "image_size": 6, "sources": (1, 2), "targets": 1, **changes})
    return SceneLoader(open_split(config, "train"), config, seed=3, batch=batch, rank=rank, world=world)


def assert_same_scenes(one: SceneLoader, other: SceneLoader, steps: int = 7) -> None:
    for step in range(steps):
        left, right = one.load(step), other.load(step)
        assert left.scene_ids == right.scene_ids
        assert all(map(torch.equal, tensors(left), tensors(right)))


def test_every_view_camera_depth_and_alpha_is_that_of_the_folder(root, packed):
    raw = open_raw(packed, "train")
    assert isinstance(raw, PackedObjects)
    assert raw.depth(1, 0) is not None
    assert raw.alpha(2, 0) is None
    assert_same(raw, open_raw(root, "train"))
    assert_same(open_raw(packed, "val"), open_raw(root, "val"))


def test_training_sees_the_same_scenes(root, packed):
    assert_same_scenes(make_loader(root), make_loader(packed))


def test_lists_of_views_keep_their_names(root, packed, tmp_path):
    path = tmp_path / "views.json"
    path.write_text(json.dumps({"cars_train/a": [2, 0, 3], "bb": [4, 1, 0]}))
    assert_same_scenes(make_loader(root, views=str(path)), make_loader(packed, views=str(path)))


def test_any_program_with_safetensors_can_read_a_file(root, packed):
    with safe_open(packed / "train.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["index"])["objects"][1]["id"] == "bb"
        pictures = file.get_slice("picture_6x6")
        expected = np.array(Image.open(root / "cars_train/a/rgb/000002.png").convert("RGB"))
        assert np.array_equal(pictures[2], expected)
        depth = file.get_tensor("depth_5x9_U16")
        assert np.array_equal(depth[1], np.array(Image.open(root / "cars_train/bb/depth/000001.png")))


def test_shards_hold_together_what_one_file_holds(root, packed, tmp_path):
    sharded = pack(root, tmp_path / "sharded", shards=3)
    assert_same(open_raw(sharded, "train"), open_raw(packed, "train"))
    assert_same_scenes(make_loader(sharded), make_loader(packed))
    raw = open_raw(sharded, "train")
    assert [raw.shard_of(index) for index in range(5)] == [0, 1, 1, 2, 2]


def test_a_rank_draws_from_its_own_shards_and_needs_no_others(root, tmp_path):
    sharded = pack(root, tmp_path / "sharded", shards=4)
    pack(root, sharded, split="val")
    whole = [make_loader(sharded, shards="rank", rank=rank, world=2) for rank in (0, 1)]
    own = [{whole[rank].load(step).scene_ids[i] for step in range(9) for i in (0, 1)} for rank in (0, 1)]
    assert own == [{"a", "ccc"}, {"bb", "dddd", "eeeee"}]
    seeds = [whole[rank].load(step).seeds.tolist() for rank in (0, 1) for step in range(9)]
    assert len({seed for pair in seeds for seed in pair}) == 36
    for shard in (1, 3):
        (sharded / f"train-{shard:05d}-of-00004.safetensors").unlink()
    assert_same_scenes(make_loader(sharded, shards="rank", world=2), whole[0])
    with pytest.raises(ValueError, match=r"\Adata.shards=rank: rank 1 of 2 needs shard 1 of 4[^\n]*\Z"):
        make_loader(sharded, shards="rank", rank=1, world=2)
    with pytest.raises(ValueError, match=r"\A[^\n]*shard 1 of 4 of train is missing[^\n]*\Z"):
        make_loader(sharded)


def test_a_list_of_views_may_name_objects_in_the_shards_of_other_ranks(root, tmp_path):
    sharded = pack(root, tmp_path / "sharded", shards=4)
    pack(root, sharded, split="val")
    views = tmp_path / "views.json"
    views.write_text(json.dumps({"a": [2, 0, 1], "bb": [4, 1, 0], "other": [0, 1]}))
    options = {"shards": "rank", "world": 2, "views": str(views)}
    whole = make_loader(sharded, **options)
    (sharded / "train-00001-of-00004.safetensors").unlink()  # with bb
    assert_same_scenes(make_loader(sharded, **options), whole)
    assert open_split(DataConfig(root=str(sharded), views=str(views)), "val").num_views(0) == 2


def test_every_epoch_of_a_rank_holds_each_of_its_objects_once(root, tmp_path):
    sharded = pack(root, tmp_path / "sharded", shards=2)
    loader = make_loader(sharded, shards="rank", rank=1, world=2, batch=3)
    numbers = [step * 6 + 3 + i for step in range(4) for i in range(3)]
    drawn = [loader.choose(number).object_index for number in numbers]
    assert [sorted(drawn[i : i + 3]) for i in range(0, 12, 3)] == [[2, 3, 4]] * 4


def test_shards_that_cannot_be_dealt_out_evenly_are_refused(root, packed):
    with pytest.raises(
        ValueError, match=r"\Adata.shards=rank: 1 shards cannot be divided[^\n]*2 ranks[^\n]*\Z"
    ):
        make_loader(packed, shards="rank", world=2)


def test_pictures_lie_in_the_files_memory_and_are_not_kept_twice(packed):
    config = DataConfig(root=str(packed), image_size=6)
    raw = open_packed(packed, "train")
    objects = Objects(config, raw)
    assert raw.picture(0, 1).data_ptr() == raw.picture(0, 0).data_ptr() + 6 * 6 * 3
    objects.read(0, [0, 1])
    assert not objects._pictures
    objects.read(3, [0])  # of another size, so worth keeping
    assert len(objects._pictures) == 1


def test_writing_to_a_picture_changes_no_file(packed):
    before = (packed / "train.safetensors").read_bytes()
    open_packed(packed, "train").picture(0, 0).fill_(7)
    assert (packed / "train.safetensors").read_bytes() == before
    assert not (open_packed(packed, "train").picture(0, 0) == 7).all()


def _read_elsewhere(raw: PackedObjects, results) -> None:
    results.put([int(raw.picture(index, 1).sum()) for index in range(len(raw))])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_open_the_files_again_by_name(packed, method):
    raw = open_packed(packed, "train")
    assert len(pickle.dumps(raw)) < 500
    context = multiprocessing.get_context(method)
    results = context.Queue()
    process = context.Process(target=_read_elsewhere, args=(raw, results))
    process.start()
    found = results.get(timeout=300)
    process.join()
    assert found == [int(raw.picture(index, 1).sum()) for index in range(len(raw))]


def test_resized_files_hold_what_reading_at_that_size_gives(root, tmp_path):
    small = pack(root, tmp_path / "small", image_size=3)
    config = {"image_size": 3, "cache_mb": 0}
    one = open_split(DataConfig(root=str(root), **config), "train")
    other = open_split(DataConfig(root=str(small), **config), "train")
    for index in range(len(one)):
        views = range(one.num_views(index))
        assert torch.equal(one.read(index, views)[0], other.read(index, views)[0])
    left, right = (objects.read_geometry(1, range(5)) for objects in (one, other))
    torch.testing.assert_close(right.depth, left.depth, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(right.alpha, left.alpha, atol=0.51 / 255, rtol=0)


class FarAway(RawObjects):
    """One object whose depth no 16 bits of 1/10000 hold."""

    ids = ("far",)

    def place(self, index):
        return "far"

    def num_views(self, index):
        return 2

    def cameras(self, index):
        return torch.eye(4).repeat(2, 1, 1), torch.eye(3).repeat(2, 1, 1)

    def picture(self, index, view):
        return torch.full((2, 3, 3), view, dtype=torch.uint8)

    def depth(self, index, view):
        return torch.tensor([[0.0, 1 / 3, 900.0], [5.0, 6.5535, 1e-5]]) + view


def test_depth_that_16_bits_do_not_hold_is_kept_as_it_is(tmp_path):
    write_object(tmp_path / "train.safetensors", FarAway(), 0, split="train")
    assert_same(open_packed(tmp_path, "train"), FarAway())


class HalfTransparent(FarAway):
    """Of its two pictures, the second alone knows transparency."""

    ids = ("far",)

    def alpha(self, index, view):
        return torch.arange(6, dtype=torch.uint8).unflatten(0, (2, 3)) if view else None


@pytest.mark.parametrize("image_size", [None, 2])
def test_pictures_without_transparency_beside_others_are_opaque(image_size, tmp_path):
    path = tmp_path / "train.safetensors"
    write_object(path, HalfTransparent(), 0, split="train", image_size=image_size)
    packed = open_packed(tmp_path, "train")
    assert (packed.alpha(0, 0) == 255).all()
    assert packed.alpha(0, 1).max() < 6
    assert holds(PackedFile(path), 0, HalfTransparent(), 0)
    assert not holds(PackedFile(path), 0, FarAway(), 0)


def header_of(path: Path) -> tuple[dict, bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_header(path: Path, header: dict, payload: bytes) -> None:
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)


def with_index(header: dict, **changes) -> dict:
    """A header whose index is changed, with a checksum that fits."""
    index = json.loads(header["__metadata__"]["index"]) | changes
    text = json.dumps(index)
    metadata = header["__metadata__"] | {"index": text, "index_crc32": str(zlib.crc32(text.encode()))}
    return header | {"__metadata__": metadata}


def with_rows(header: dict, number: int, **changes) -> dict:
    """A header in which the first rows of an object's pictures are changed."""
    objects = json.loads(header["__metadata__"]["index"])["objects"]
    objects[number]["picture"][0] |= changes
    return with_index(header, objects=objects)


def with_tensor(header: dict, name: str, **changes) -> dict:
    return header | {name: header[name] | changes}


def entries(header: dict) -> list[dict]:
    return json.loads(header["__metadata__"]["index"])["objects"]


HOSTILE = {
    "huge offsets": lambda h: with_tensor(h, "poses", data_offsets=[0, 2**62]),
    "negative offsets": lambda h: with_tensor(h, "poses", data_offsets=[-64, 0]),
    "offsets that overlap": lambda h: with_tensor(
        h, "poses", data_offsets=h["intrinsics"]["data_offsets"], shape=h["intrinsics"]["shape"]
    ),
    "a shape that does not fit": lambda h: with_tensor(h, "poses", shape=[2**31, 2**31, 16]),
    "a type that does not fit": lambda h: with_tensor(h, "poses", dtype="I32"),
    "a type of another size": lambda h: with_tensor(h, "poses", dtype="F64"),
    "no poses": lambda h: {name: value for name, value in h.items() if name != "poses"},
    "no metadata": lambda h: {name: value for name, value in h.items() if name != "__metadata__"},
    "no index": lambda h: h | {"__metadata__": {"format": "genvs-packed-1"}},
    "another format": lambda h: h | {"__metadata__": h["__metadata__"] | {"format": "genvs-checkpoint-1"}},
    "a wrong checksum": lambda h: h | {"__metadata__": h["__metadata__"] | {"index_crc32": "1"}},
    "an index that is no object": lambda h: with_index(h)
    | {
        "__metadata__": {
            "format": "genvs-packed-1",
            "index": "[" * 5000,
            "index_crc32": str(zlib.crc32(b"[" * 5000)),
        }
    },
    "a surplus key": lambda h: with_index(h, command="rm"),
    "a split of another name": lambda h: with_index(h, split="other"),
    "rows beyond the end": lambda h: with_rows(h, 0, first=10**12),
    "rows below 0": lambda h: with_rows(h, 0, first=-1),
    "rows that overlap": lambda h: with_rows(h, 2, first=0),
    "too many rows": lambda h: with_rows(h, 0, count=10**12),
    "rows of no tensor": lambda h: with_rows(h, 0, tensor="nothing"),
    "rows of cameras": lambda h: with_rows(h, 0, tensor="poses"),
    "fewer objects than rows": lambda h: with_index(h, objects=entries(h)[:-1]),
    "more views than rows": lambda h: with_index(
        h, objects=[entries(h)[0] | {"views": 10**9}, *entries(h)[1:]]
    ),
    "an id twice": lambda h: with_index(h, objects=[entries(h)[0] | {"id": "bb"}, *entries(h)[1:]]),
    "an id that leads elsewhere": lambda h: with_index(
        h, objects=[entries(h)[0] | {"id": "../../x"}, *entries(h)[1:]]
    ),
    "an id of two lines": lambda h: with_index(h, objects=[entries(h)[0] | {"id": "x\ny"}, *entries(h)[1:]]),
}


@pytest.mark.parametrize("change", HOSTILE)
def test_a_hostile_header_is_refused_in_one_line(packed, change):
    path = packed / "train.safetensors"
    header, payload = header_of(path)
    write_header(path, header, payload)
    assert len(open_packed(packed, "train")) == 5  # the way it is written is not what is refused
    write_header(path, HOSTILE[change](header), payload)
    with pytest.raises(ValueError, match=r"\A[^\n]*train\.safetensors: [^\n]*\Z") as caught:
        open_packed(packed, "train")
    assert len(str(caught.value)) < 500


def test_a_file_may_be_larger_than_memory(tmp_path):
    path = tmp_path / "train.safetensors"
    num = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (64 + 36 + 3)
    shapes = {"poses": [num, 4, 4], "intrinsics": [num, 3, 3], "picture_1x1": [num, 1, 1, 3]}
    header, end = {"__metadata__": {"format": "genvs-packed-1", "index": "{}"}}, 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * (1 if name == "picture_1x1" else 4)
        header[name] = {
            "dtype": "U8" if name == "picture_1x1" else "F32",
            "shape": shape,
            "data_offsets": [begin, end],
        }
    rows = [{"tensor": "picture_1x1", "first": 0, "count": num}]
    entry = {"id": "a", "names": ["a"], "views": num, "crc32": 0, "picture": rows}
    write_header(path, with_index(header, split="train", objects=[entry]), b"")
    try:
        os.truncate(path, path.stat().st_size + end)
    except OSError as error:
        pytest.skip(f"no sparse file of {end} bytes here: {error}")
    raw = open_packed(tmp_path, "train")
    assert raw.picture(0, num - 1).tolist() == [[[0, 0, 0]]]


def test_a_file_that_cannot_be_mapped_is_one_line(packed, monkeypatch):
    def full(*arguments, **options):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("data.formats.packed.file.mmap.mmap", full)
    with pytest.raises(ValueError, match=r"\A[^\n]*train.safetensors: cannot be mapped[^\n]*\Z"):
        open_packed(packed, "train")


def test_every_layout_has_a_name_in_the_configuration():
    allowed = get_args(DataConfig.model_fields["layout"].annotation)
    assert set(allowed) == {"auto", *LAYOUTS}


@pytest.mark.parametrize("length", [0, 5, 100, 3000, -1])
def test_a_truncated_file_is_noticed_when_it_is_opened(packed, length):
    path = packed / "train.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"\A[^\n]*train\.safetensors: is truncated[^\n]*\Z"):
        open_packed(packed, "train")


def test_bytes_at_the_end_are_noticed_too(packed):
    path = packed / "train.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match="is truncated or not a safetensors file"):
        open_packed(packed, "train")


@pytest.mark.parametrize(
    ("tensor", "victim"), [("poses", "a"), ("depth_5x9_U16", "bb"), ("picture_2x7", "eeeee")]
)
def test_a_flipped_bit_is_found_in_its_object_alone(packed, tensor, victim):
    path = packed / "train.safetensors"
    header, payload = header_of(path)
    content = bytearray(payload)
    content[header[tensor]["data_offsets"][0] + 7] ^= 16
    write_header(path, header, bytes(content))
    raw = open_packed(packed, "train")
    for index, name in enumerate(raw.ids):
        if name != victim:
            raw.verify(index)
    with pytest.raises(ValueError, match=rf"\A[^\n]*safetensors: object {victim} is not as it was[^\n]*\Z"):
        raw.verify(raw.ids.index(victim))


def test_a_torn_write_leaves_no_file_and_what_it_leaves_is_not_read(root, tmp_path, monkeypatch, packed):
    torn = packed / "train.safetensors.unfinished"
    torn.write_bytes((packed / "train.safetensors").read_bytes()[:1000])
    (packed / ".unfinished").mkdir()
    assert len(open_raw(packed, "train")) == 5
    before = (packed / "train.safetensors").read_bytes()
    monkeypatch.setattr(PackedFile, "verify", lambda *_: (_ for _ in ()).throw(ValueError("torn")))
    with pytest.raises(ValueError, match="torn"):
        pack(root, packed)
    assert (packed / "train.safetensors").read_bytes() == before
    assert not torn.exists()


def test_depth_of_some_views_only_is_refused(root, tmp_path):
    class Partial(FarAway):
        def depth(self, index, view):
            return None if view else torch.zeros(2, 3)

    with pytest.raises(ValueError, match=r"\Afar: has depth for some views only[^\n]*\Z"):
        write_object(tmp_path / "x", Partial(), 0, split="train")


def test_files_of_different_packings_or_names_are_not_mixed(root, packed):
    pack(root, packed, shards=2)
    with pytest.raises(ValueError, match=r"\A[^\n]*different packings; delete one of them\Z"):
        open_raw(packed, "train")
    (packed / "train.safetensors").unlink()
    (packed / "train-00001-of-00002.safetensors").rename(packed / "train-00000-of-00002.safetensors")
    with pytest.raises(
        ValueError, match=r"\A[^\n]*was written as train-00001-of-00002.safetensors; rename it back[^\n]*\Z"
    ):
        open_raw(packed, "train")


def test_a_missing_split_and_a_file_in_place_of_the_folder_are_named(packed):
    with pytest.raises(ValueError, match=r"\A[^\n]*one file of a packed set; give the folder[^\n]*\Z"):
        open_raw(packed / "train.safetensors", "train")
    assert open_raw(packed, "test").ids == ("other",)
    (packed / "val.safetensors").unlink()
    with pytest.raises(ValueError, match=r"\A[^\n]*there is no val\.safetensors and no shards[^\n]*\Z"):
        open_raw(packed, "val")
