"""Files of a data set that cannot be used: named where they stop a run, counted too where they do not."""

import json
import re
import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch

import train as program
from config.run import load_config
from data.config import DataConfig
from data.formats.registry import open_split
from data.formats.srn.objects import SRNObjects
from data.scenes.damaged_files import ATTEMPTS, DamagedFileError, first_usable
from data.scenes.loader import SceneLoader, held_out
from data.scenes.objects import Objects
from models.checkpoints.format import checkpoints_of, load_checkpoint
from models.training.interruption import StopSignal
from models.training.meter import DamageCount
from scripts import pack
from tests.data.formats import test_colmap, test_nmr
from tests.data.formats import test_transforms as test_transforms_set
from tests.data.scenes.test_loader import assert_same, open_both, tensors
from tests.scenes import run_document

STEPS = range(12)


def cut(path: Path) -> Path:
    """Cut a picture short, behind its header."""
    path.write_bytes(path.read_bytes()[:-40])
    return path


@pytest.fixture
def root(tmp_path, plant_object):
    """Four training objects of 4, 5, 6 and 7 views, and a held-out one."""
    for number in range(4):
        plant_object(tmp_path / "set/cars_train" / f"car{number}", num_views=4 + number)
    plant_object(tmp_path / "set/cars_val/other", num_views=5)
    return tmp_path / "set"


def make_loader(root: Path, *, batch: int = 3, rank: int = 0, world: int = 1, **changes) -> SceneLoader:
    objects, config = open_both(root, **{"damaged": "skip", "targets": 1, **changes})
    return SceneLoader(objects, config, seed=5, batch=batch, rank=rank, world=world)


def test_a_scene_with_a_damaged_file_gives_way_to_its_next_attempt_and_no_other_does(root):
    sound = make_loader(root)
    expected = {step: sound.load(step) for step in STEPS}
    victim = cut(root / "cars_train/car2/rgb/000003.png")
    loader, replaced = make_loader(root), 0
    for step in STEPS:
        batch = loader.load(step)
        for place, number in enumerate(range(3 * step, 3 * step + 3)):
            attempts = (loader.choose(number, attempt) for attempt in range(ATTEMPTS))
            usable = (c for c in attempts if c.object_index != 2 or 3 not in c.source + c.target)
            choice = next(usable)
            replaced += choice != loader.choose(number)
            assert batch.scene_ids[place] == f"car{choice.object_index}"
            assert batch.seeds[place] == choice.seed == loader.choose(number).seed
            target, _ = sound.objects.read(choice.object_index, choice.target)
            assert torch.equal(batch.target.images[place], target)
        if not batch.damage:
            assert_same(batch, expected[step])
        assert all(re.fullmatch(rf"{victim}: not a readable image .*", line) for line in batch.damage)
    assert replaced >= 3


def test_what_is_loaded_instead_does_not_depend_on_processes_nor_on_where_a_run_began(root):
    cut(root / "cars_train/car2/rgb/000003.png")
    cut(root / "cars_train/car0/rgb/000001.png")
    expected = [make_loader(root).load(step) for step in STEPS]
    assert sum(map(len, (batch.damage for batch in expected))) >= 3
    for batch, found in zip(expected[5:], make_loader(root, workers=2).batches(5), strict=False):
        assert_same(batch, found)
        assert batch.damage == found.damage
    ranks = [make_loader(root, batch=1, rank=rank, world=3) for rank in range(3)]
    for step in STEPS:
        parts = [rank.load(step) for rank in ranks]
        assert sum((part.damage for part in parts), ()) == expected[step].damage
        joined = [torch.cat(part) for part in zip(*map(tensors, parts), strict=True)]
        assert all(torch.equal(*pair) for pair in zip(joined, tensors(expected[step]), strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_by_default_a_damaged_file_stops_with_what_to_do_about_it(root, workers):
    victim = cut(root / "cars_train/car2/rgb/000003.png")
    advice = rf"`python -m scripts.check_data {root}` finds all such files, data.damaged=skip "
    with pytest.raises(ValueError, match=rf"\A{victim}: not a readable [^\n]*{advice}[^\n]*\Z"):
        list(islice(make_loader(root, damaged="stop", workers=workers).batches(), len(STEPS)))


def test_an_object_that_cannot_even_be_listed_is_skipped_and_named(root):
    victim = root / "cars_train/car1/pose/000002.txt"
    victim.unlink()
    with pytest.raises(ValueError, match=r"\A[^\n]*car1[^\n]*data.damaged=skip[^\n]*\Z"):
        make_loader(root, damaged="stop")
    batches = [make_loader(root).load(step) for step in STEPS]
    assert {name for batch in batches for name in batch.scene_ids} == {"car0", "car2", "car3"}
    assert all("car1" in line for batch in batches for line in batch.damage)


def test_where_nearly_all_is_damaged_there_is_an_end(root):
    for path in root.glob("cars_train/*/rgb/*.png"):
        cut(path)
    message = rf"{ATTEMPTS} consecutive attempts at a scene [^\n]*png: not a readable[^\n]*check_data"
    with pytest.raises(ValueError, match=rf"\A{message}[^\n]*\Z"):
        make_loader(root).load(0)


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_a_set_that_is_gone_is_no_damage(root, left):
    loader = make_loader(root)
    loader.load(0)
    shutil.rmtree(root)
    if left == "an empty folder":
        root.mkdir()
    with pytest.raises(ValueError, match=rf"\Adata.root={root}: is missing or empty now; [^\n]*\Z"):
        list(map(loader.load, STEPS))


def broken_disk(*_) -> None:
    raise OSError(5, "Input/output error")


def test_errors_of_the_disk_are_damage_and_what_is_asked_in_vain_is_not(root, monkeypatch):
    loader = make_loader(root)
    with monkeypatch.context() as patch:
        patch.setattr(SRNObjects, "picture", broken_disk)
        place = root / "cars_train/car0"
        with pytest.raises(DamagedFileError, match=rf"\A{place}: cannot be read \(Input/output [^\n]*\Z"):
            loader.objects.read(0, [1])
    loader.requires = frozenset({"cameras", "geometry"})
    with pytest.raises(ValueError, match="has no depth images, which model") as caught:
        loader.load(0)
    assert not isinstance(caught.value, DamagedFileError)


def test_held_out_objects_with_damage_give_way_to_the_next_where_that_is_wanted(root, plant_object):
    for name in ("p", "q", "r"):
        plant_object(root / "cars_val" / name, num_views=4)
    victims = [cut(root / f"cars_val/{name}/rgb/000000.png") for name in ("other", "q")]

    def opened(damaged: str) -> Objects:
        return open_split(DataConfig(root=str(root), image_size=6, damaged=damaged), "val")

    objects = opened("skip")
    batch = held_out(objects, 2)
    assert batch.scene_ids == ("p", "r")
    assert [line.partition(":")[0] for line in batch.damage] == [str(victim) for victim in victims]
    assert held_out(objects, 1).damage == batch.damage[:1]
    with pytest.raises(
        ValueError, match=rf"\A{victims[0]}: not a [^\n]*check_data[^\n]*damaged=skip[^\n]*\Z"
    ):
        held_out(opened("stop"), 2)
    for name in ("p", "r"):
        cut(root / f"cars_val/{name}/rgb/000000.png")
    with pytest.raises(
        ValueError, match=rf"\A{root}: no held-out object can be used[^\n]*check_data[^\n]*\Z"
    ):
        held_out(opened("skip"), 1)


def planted_nmr(root: Path) -> Path:
    """A category of two objects; returns a picture."""
    for name in ("a", "b"):
        test_nmr.plant(root / name, num_views=4)
    (root / "train.lst").write_text("a\nb\n")
    return cut(root / "a/image/0002.png")


def planted_transforms(root: Path) -> Path:
    test_transforms_set.plant(root, num=8)
    return cut(root / "images/r.3.png")


def planted_colmap(root: Path) -> Path:
    test_colmap.plant(root)
    return cut(root / "images/a photo 3.png")


@pytest.mark.parametrize("plant", [planted_nmr, planted_transforms, planted_colmap])
def test_every_layout_names_its_file_and_goes_on(tmp_path, plant):
    victim = plant(tmp_path / "set")
    config = DataConfig(root=str(tmp_path / "set"), image_size=6, sources=(1, 2), damaged="skip")
    loader = SceneLoader(open_split(config, "train"), config, seed=1, batch=2)
    damage = [line for step in STEPS for line in loader.load(step).damage]
    assert len(damage) > 1
    assert all(line.startswith(f"{victim}: ") for line in damage)


def test_a_bit_that_flips_in_a_packed_set_costs_its_object_alone(root, tmp_path):
    packed = tmp_path / "packed"
    assert pack.main([str(root), "--output", str(packed), "--splits", "train"]) == 0
    whole = open_split(DataConfig(root=str(packed), image_size=6), "train")
    pixels = whole.raw.picture(2, 1).numpy().tobytes()
    path = packed / "train.safetensors"
    content = bytearray(path.read_bytes())
    content[content.index(pixels) + 9] ^= 16
    path.write_bytes(content)
    batches = [make_loader(packed).load(step) for step in STEPS]
    assert {name for batch in batches for name in batch.scene_ids} == {"car0", "car1", "car3"}
    lines = {line for batch in batches for line in batch.damage}
    assert len(lines) == 1
    assert f"{path}: object car2 is not as it was written" in lines.pop()


def test_the_first_usable_attempt_is_taken_and_others_are_not_made():
    made = []

    def read(attempt: int) -> str:
        made.append(attempt)
        if attempt < 3:
            raise DamagedFileError(f"file {attempt}: broken")
        return "found"

    found = first_usable(read, root=str(Path(__file__).parent), skip=True)
    assert found == ("found", ("file 0: broken", "file 1: broken", "file 2: broken"))
    assert made == [0, 1, 2, 3]


def test_every_file_is_said_once_and_counted_when_its_batch_is_used(root):
    cut(root / "cars_train/car2/rgb/000003.png")
    cut(root / "cars_train/car0/rgb/000001.png")
    said: list[str] = []
    damage, seen = DamageCount(skip=True, say=said.append), set()
    for batch in islice(damage.named(make_loader(root).batches()), len(STEPS)):
        seen |= set(batch.damage)
        assert damage.figures() == {"damaged_files": len(seen)}
        assert damage.figures(lambda problems: 2 * len(problems)) == {"damaged_files": 2 * len(seen)}
    assert len(said) == len(seen) == 2
    assert DamageCount(skip=False, say=said.append).figures() == {}


@pytest.fixture
def write_config(tmp_path, plant_object):
    """write_config(name): a config file of a run on three objects, a picture of which is cut short."""
    for name, num_views in (
        ("cars_train/a", 3),
        ("cars_train/bb", 4),
        ("cars_train/c", 3),
        ("cars_val/d", 3),
        ("cars_val/e", 3),
    ):
        plant_object(tmp_path / "data" / name, num_views=num_views, size=(16, 16))
    cut(tmp_path / "data/cars_train/bb/rgb/000001.png")

    def write(name: str) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(run_document(tmp_path / "data", tmp_path / "runs") | {"name": name}))
        return path

    return write


def train(path: Path, *changes: str) -> Path:
    config = load_config(path, ["data.damaged=skip", "train.log_every=2", *changes])
    program.train(config, StopSignal())
    return config.folder


def test_a_run_goes_round_a_damaged_picture_as_a_resumed_one_does_to_the_last_bit(
    write_config, tmp_path, capsys
):
    path = write_config("whole")
    held_out_victim = cut(tmp_path / "data/cars_val/d/rgb/000000.png")
    whole = train(path, "train.steps=5", "train.preview_every=4")
    said = capsys.readouterr().err
    victim = tmp_path / "data/cars_train/bb/rgb/000001.png"
    assert said.count(f"train.py: warning: {victim}: not a readable image") == 1
    assert said.count(f"train.py: warning: {held_out_victim}: not a readable image") == 1
    assert "damaged files met and named above: 2; `python -m scripts.check_data" in said
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    counts = [line["damaged_files"] for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] == 2
    path = write_config("halves")
    train(path, "train.steps=2", "data.workers=2")
    halves = train(path, "train.steps=5", "data.workers=2")
    one, two = (load_checkpoint(checkpoints_of(folder)[-1]).tensors for folder in (whole, halves))
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_by_default_a_run_stops_and_says_how_to_go_on(write_config, tmp_path, capsys):
    assert program.main([str(write_config("stops")), "train.steps=8"]) == 2
    message = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("train.py: "))
    assert str(tmp_path / "data/cars_train/bb/rgb/000001.png") in message
    assert "scripts.check_data" in message
    assert "data.damaged=skip" in message
