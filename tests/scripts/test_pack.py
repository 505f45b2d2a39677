"""python -m scripts.pack: any set into packed files, whole or not at all, and going on where it stopped."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from data.cameras.poses import srn_test_path
from data.formats.packed.file import PackedFile
from data.formats.packed.objects import open_packed
from data.formats.registry import open_raw
from scripts.pack import main


@pytest.fixture
def root(tmp_path, plant_object) -> Path:
    for number in range(9):
        plant_object(tmp_path / f"set/cars_train/car{number}", num_views=2 + number % 3, size=(4, 5))
    plant_object(tmp_path / "set/cars_val/other", num_views=3)
    return tmp_path / "set"


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "packed"


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_all_splits_are_packed_and_verified(root, output, capsys):
    assert run(root, "--output", output) == 0
    text = capsys.readouterr().out
    assert "train.safetensors: 9 objects, 27 views, 0.0 MB (picture_4x5)" in text
    assert f"data.root={output}" in text
    assert files_in(output) == ["train.safetensors", "val.safetensors"]  # test would be val again
    assert [path.name for path in output.iterdir() if path.is_dir()] == []
    for split in ("train", "val"):
        one, other = open_raw(root, split), open_packed(output, split)
        assert one.ids == other.ids
        for index in range(len(one)):
            assert torch.equal(one.picture(index, 1), other.picture(index, 1))
    assert run("--verify", output) == 0
    assert "all checksums match" in capsys.readouterr().out


def test_several_processes_write_what_one_writes(root, output, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.packing.plan.OBJECTS_PER_WORKER", 1)
    assert run(root, "--output", output, "--workers", 1) == 0
    assert run(root, "--output", tmp_path / "two", "--workers", 2) == 0
    for name in files_in(output):
        assert (output / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_shards_are_cut_by_number_or_by_size(root, output, tmp_path, monkeypatch):
    assert run(root, "--output", output, "--shards", 4) == 0
    assert [len(PackedFile(path)) for path in sorted(output.glob("train-*-of-00004*"))] == [2, 2, 2, 3]
    assert "val.safetensors" in files_in(output)
    assert open_packed(output, "train").ids == open_raw(root, "train").ids
    monkeypatch.setattr("scripts.packing.plan.MEGABYTE", 600)  # of 27 views of 60 bytes
    assert run(root, "--output", tmp_path / "sized", "--shard-mb", 1) == 0
    assert len(list((tmp_path / "sized").glob("train-*-of-00003.safetensors"))) == 3


def test_a_packed_set_can_be_packed_into_other_shards(root, output, tmp_path):
    assert run(root, "--output", output) == 0
    assert run(output, "--output", tmp_path / "again", "--shards", 3) == 0
    assert run(tmp_path / "again", "--output", tmp_path / "whole") == 0
    assert (tmp_path / "whole/train.safetensors").read_bytes() == (output / "train.safetensors").read_bytes()


def test_pictures_are_resized_on_demand(root, output):
    assert run(root, "--output", output, "--image-size", 3) == 0
    assert open_packed(output, "train").picture(4, 0).shape == (3, 3, 3)
    assert PackedFile(output / "train.safetensors").index.image_size == 3


def test_a_bad_picture_is_named_and_no_file_is_written(root, output, capsys):
    bad = root / "cars_train/car5/rgb/000001.png"
    bad.write_bytes(bad.read_bytes()[:50])
    assert run(root, "--output", output) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"pack: .*car5/rgb/000001.png: not a readable image.*--skip-bad", error)
    assert not list(output.glob("*.safetensors"))


def test_the_same_command_goes_on_where_a_bad_picture_ended_it(root, output, monkeypatch):
    bad = root / "cars_train/car5/rgb/000001.png"
    content = bad.read_bytes()
    bad.write_bytes(b"")
    assert run(root, "--output", output) == 2
    bad.write_bytes(content)
    written = []
    from data.formats.packed import writer as packed_writer

    original = packed_writer.write_object

    def counted(path, raw, index, **options):
        written.append(raw.ids[index])
        return original(path, raw, index, **options)

    monkeypatch.setattr(packed_writer, "write_object", counted)
    assert run(root, "--output", output) == 0
    assert written == ["car5", "car6", "car7", "car8", "other"]
    assert open_packed(output, "train").ids == open_raw(root, "train").ids
    written.clear()
    assert run(root, "--output", output) == 0
    assert not written


def test_stopping_is_one_line_and_the_same_command_goes_on(root, output, monkeypatch, capsys):
    from data.formats.packed import writer as packed_writer

    original = packed_writer.write_object

    def interrupted(path, raw, index, **options):
        if index == 4:
            raise KeyboardInterrupt
        original(path, raw, index, **options)

    monkeypatch.setattr(packed_writer, "write_object", interrupted)
    assert run(root, "--output", output) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("pack: stopped; the same command")
    monkeypatch.undo()
    assert run(root, "--output", output) == 0
    assert open_packed(output, "train").ids == open_raw(root, "train").ids


def test_a_part_that_was_torn_is_written_again(root, output):
    part = output / ".unfinished/train/000002.safetensors"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half of it")
    assert run(root, "--output", output) == 0
    assert run("--verify", output) == 0


def test_bad_objects_are_left_out_on_demand_and_listed(root, output, capsys):
    (root / "cars_train/car2/rgb/000000.png").write_bytes(b"")
    (root / "cars_train/car7/pose/000001.txt").write_text("1 2 3")
    for _ in range(2):  # the second time, nothing is to be done
        assert run(root, "--output", output, "--skip-bad") == 0
        index = PackedFile(output / "train.safetensors").index
        assert index.left_out == ("car2", "car7")
        assert [entry.id for entry in index.objects] == [f"car{i}" for i in (0, 1, 3, 4, 5, 6, 8)]
    error = capsys.readouterr().err
    assert "car2/rgb/000000.png: not a readable image" in error
    assert "car7/pose/000001.txt: holds 3 numbers" in error
    assert run(root, "--output", output) == 2
    assert "other contents" in capsys.readouterr().err


def test_what_is_read_back_is_compared(root, output, capsys, monkeypatch):
    # The file comes out well-formed, but with other bytes than those that were summed up.
    monkeypatch.setattr("data.formats.packed.file.checksum", lambda tensors: 5)
    assert run(root, "--output", output) == 2
    assert "is not as it was written" in capsys.readouterr().err
    assert not list(output.glob("*.safetensors"))


def test_a_flipped_bit_is_reported_with_file_and_object(root, output, capsys):
    run(root, "--output", output)
    path = output / "val.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    for asked in (output, path):
        capsys.readouterr()
        assert run("--verify", asked) == 2
        assert re.search(r"val.safetensors: object other is not as it was written", capsys.readouterr().err)


def test_a_missing_shard_is_not_well(root, output, capsys):
    assert run(root, "--output", output, "--shards", 3) == 0
    assert run("--verify", output) == 0
    (output / "train-00001-of-00003.safetensors").rename(output / "train-00000-of-00003.safetensors")
    capsys.readouterr()
    assert run("--verify", output) == 2
    error = capsys.readouterr().err
    assert f"{output}: shard 1 of 3 of train is missing" in error
    assert "train-00000-of-00003.safetensors: was written as train-00001-of-00003" in error


def test_a_damaged_file_is_packed_again_as_its_message_says(root, output, capsys):
    assert run(root, "--output", output) == 0
    path = output / "train.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:500])
    assert run(root, "--output", output) == 2
    assert "delete it and pack again" in capsys.readouterr().err
    path.unlink()
    assert run(root, "--output", output) == 0
    assert path.read_bytes() == content


def test_other_contents_in_the_output_are_not_overwritten(root, output, capsys):
    assert run(root, "--output", output) == 0
    before = (output / "train.safetensors").read_bytes()
    for more, problem in ((["--shards", 2], "of another packing"), (["--image-size", 3], "other contents")):
        assert run(root, "--output", output, *more) == 2
        assert problem in capsys.readouterr().err
    assert (output / "train.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["{root}"], "--output"),
        (["--output", "x"], "--output"),
        (["{root}/nothing", "--output", "x"], "no such folder"),
        (["{root}", "--output", "{root}"], "the set itself"),
        (["{root}", "--output", "x", "--shards", "10"], "--shards is 10"),
        (["{root}", "--output", "x", "--workers", "0"], "--workers is 0"),
        (["{root}", "--output", "x", "--image-size", "-3"], "--image-size is -3"),
        (["{root}", "--output", "x", "--layout", "nonsense"], "--layout nonsense"),
        (["{root}/cars_val", "--output", "x"], "single object"),
        (["--verify", "{root}"], "no packed files"),
        (["--verify", "{root}/nothing"], "no packed files"),
        (["{root}", "--output", "{root}/cars_val/other/intrinsics.txt/x"], "cannot write"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, named, root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([word.format(root=root) for word in arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line and "object/s" not in line]
    assert len(error) == 1
    assert error[0].startswith("pack: ")
    assert named in error[0]


def test_a_split_that_cannot_be_opened_is_never_left_out_silently(root, output, capsys):
    (root / "cars_train").rename(root / "cars_test")
    assert run(root, "--output", output) == 2
    assert "--splits val test" in capsys.readouterr().err
    assert run(root, "--output", output, "--splits", "val", "test") == 0
    assert files_in(output) == ["test.safetensors", "val.safetensors"]


def other_set(root: Path, kind: str) -> Path:
    """A set of the same names and sizes, of which one object differs."""
    other = root.with_name("other")
    shutil.copytree(root, other)
    if kind == "pictures":
        Image.new("RGB", (5, 4)).save(other / "cars_train/car1/rgb/000000.png")
    elif kind == "cameras":
        pose = other / "cars_train/car1/pose/000001.txt"
        pose.write_text((other / "cars_train/car1/pose/000000.txt").read_text())
    else:
        (other / "cars_train/car1/alpha").mkdir()
        for picture in (other / "cars_train/car1/rgb").iterdir():
            Image.new("L", (5, 4)).save(other / "cars_train/car1/alpha" / picture.name)
    return other


@pytest.mark.parametrize("kind", ["pictures", "cameras", "alpha"])
def test_another_set_of_the_same_names_is_no_reason_to_keep_a_file(kind, root, output, capsys):
    assert run(root, "--output", output) == 0
    before = (output / "train.safetensors").read_bytes()
    assert run(other_set(root, kind), "--output", output) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "train.safetensors: is there already with other contents; delete it or choose" in error
    assert (output / "train.safetensors").read_bytes() == before


@pytest.mark.parametrize("kind", ["pictures", "cameras", "alpha"])
def test_parts_of_another_set_are_written_again(kind, root, output):
    bad = root / "cars_train/car5/rgb/000001.png"
    content = bad.read_bytes()
    bad.write_bytes(b"")
    assert run(root, "--output", output) == 2
    bad.write_bytes(content)
    other = other_set(root, kind)
    assert run(other, "--output", output) == 0
    one, found = open_raw(other, "train"), open_packed(output, "train")
    assert all(map(torch.equal, one.cameras(1), found.cameras(1)))
    assert torch.equal(one.picture(1, 0), found.picture(1, 0))
    assert (found.alpha(1, 0) is None) == (one.alpha(1, 0) is None)


def test_a_lone_scene_is_packed_with_the_views_of_every_split(tmp_path, output):
    folder = tmp_path / "scene"
    folder.mkdir()
    flip, frames = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])), []
    for view, pose in enumerate(srn_test_path(20)):
        Image.new("RGB", (4, 4), (view, 0, 0)).save(folder / f"{view:02d}.png")
        frames.append({"file_path": f"{view:02d}.png", "transform_matrix": (pose @ flip).tolist()})
    (folder / "transforms.json").write_text(json.dumps({"camera_angle_x": 0.9, "frames": frames}))
    assert run(folder, "--output", output) == 0
    for split in ("train", "val", "test"):
        one, other = open_raw(folder, split), open_packed(output, split)
        assert one.num_views(0) == other.num_views(0) < 20
        assert torch.equal(one.picture(0, 0), other.picture(0, 0))


@pytest.mark.parametrize("arguments", [["--nonsense"], ["x", "--output", "y", "--shards", "many"]])
def test_unknown_options_are_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "data.shards=rank" in text


def test_files_do_not_depend_on_where_the_set_lies(root, output, tmp_path):
    assert run(root, "--output", output) == 0
    root.rename(tmp_path / "elsewhere")
    assert run(tmp_path / "elsewhere", "--output", tmp_path / "again") == 0
    assert (tmp_path / "again/train.safetensors").read_bytes() == (output / "train.safetensors").read_bytes()
    index = json.loads(PackedFile(output / "train.safetensors").index.model_dump_json())
    assert str(tmp_path) not in json.dumps(index)
