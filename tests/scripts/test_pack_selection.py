"""python -m scripts.pack --mix and --without: which objects of which categories are in which shard."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from data.formats.packed.file import PackedFile
from data.formats.packed.objects import open_packed
from data.formats.registry import open_raw
from scripts.make_shapes import main as make_shapes
from scripts.pack import main

CAR, CHAIR = "02958343", "03001627"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Seven objects of each of two categories for training."""
    folder = tmp_path_factory.mktemp("nmr") / "NMR_Dataset"
    sizes = ["--objects", "7", "--val", "1", "--size", "8", "--workers", "1"]
    assert make_shapes(["--layout", "nmr", "--root", str(folder), *sizes]) == 0
    shutil.copytree(folder / CAR, folder / CHAIR)
    names = {CAR: {"name": "car,auto,automobile"}, CHAIR: {"name": "chair"}}
    (folder / "metadata.yaml").write_text(json.dumps(names))
    return folder


def packed(root: Path, output: Path, *more: str) -> list[list[str]]:
    """The training objects of every shard."""
    assert main([str(root), "--output", str(output), "--workers", "1", *more]) == 0
    return [
        [entry.id for entry in PackedFile(path).index.objects]
        for path in sorted(output.glob("train*.safetensors"))
    ]


def test_mixed_shards_are_balanced_hold_all_categories_and_every_object_once(root, tmp_path):
    shards = packed(root, tmp_path / "one", "--mix", "--shards", "3")
    assert sorted(map(len, shards)) == [4, 5, 5]
    every = [name for shard in shards for name in shard]
    assert sorted(every) == sorted(open_raw(root, "train").ids)
    for shard in shards:
        assert set(Counter(name.partition("_")[0] for name in shard)) == {CAR, CHAIR}
    assert packed(root, tmp_path / "two", "--mix", "--shards", "3") == shards
    assert packed(root, tmp_path / "three", "--shards", "3")[0] == list(open_raw(root, "train").ids)[:4]


@pytest.mark.parametrize("name", ["chair", CHAIR])
def test_a_category_is_left_out_of_training_alone(root, tmp_path, name):
    (shard,) = packed(root, tmp_path / "set", "--without", name)
    assert len(shard) == 7
    assert all(object_id.startswith(CAR) for object_id in shard)
    for split in ("val", "test"):
        assert open_packed(tmp_path / "set", split).ids == open_raw(root, split).ids


def test_an_unknown_category_is_named_beside_those_that_there_are(root, tmp_path, capsys):
    assert main([str(root), "--output", str(tmp_path / "set"), "--without", "boat"]) == 2
    assert "--without boat: there is no such category to train on; there are: car, chair" in (
        capsys.readouterr().err
    )


def test_without_a_training_split_there_is_nothing_to_choose(root, tmp_path, capsys):
    arguments = [str(root), "--output", str(tmp_path / "set"), "--splits", "val"]
    assert main([*arguments, "--mix"]) == 2
    assert "concern the training split" in capsys.readouterr().err
