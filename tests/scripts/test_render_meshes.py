"""The program that makes data sets of mesh files, from the files to what the training reads."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from data.cameras.text_files import read_pose
from data.config import DataConfig
from data.formats.registry import open_split
from data.formats.rendered_view import MeshView
from data.formats.srn.layout import DEPTH_STEPS
from data.formats.srn.writer import INTRINSICS, write_contact_sheet, write_object
from data.meshes import loading
from data.meshes.datasets import dataset as mesh_sets
from data.meshes.datasets.camera_poses import ELEVATIONS_DEG, random_poses, spiral_poses
from data.meshes.lighting import three_suns
from data.meshes.loading import load_mesh
from data.meshes.mesh import normalised
from data.meshes.ray_casting import render_meshes
from data.meshes.sources import find_meshes
from scripts.render_meshes import RenderOptions, main, render_set

ROOT = Path(__file__).parents[2]
SMALL = {"views": 3, "test_views": 5, "size": 24}
FLAGS = ["--views", "3", "--test-views", "5", "--size", "24", "--workers", "0"]
OPTIONS = RenderOptions(**SMALL)
SHAPES = (((3,), np.uint8), ((), np.uint8), ((), np.float32))  # of rgb, alpha and depth beyond 8 x 8
COLOURS = ([220, 30, 30], [30, 220, 30], [30, 30, 220], [220, 220, 30], [220, 30, 220], [30, 220, 220])


def files_of(root: Path) -> dict[str, bytes]:
    """All files of the objects, by their paths."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.glob("objects_*/**/*") if p.is_file()}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Six solids: one of them in two colours, and two that cannot be read."""
    folder = tmp_path_factory.mktemp("models")
    for i, suffix in enumerate(("glb", "obj", "ply", "stl", "off", "ply")):
        size = (1, 2, 4) if i in (2, 5) else (1 + i, 2, 3)  # along x, y, z
        solid = trimesh.creation.box(size)
        solid.visual.face_colors = COLOURS[i]
        solid.export(folder / f"solid{i}.{suffix}")
    (folder / "broken.glb").write_bytes(b"no mesh")
    (folder / "empty.obj").write_bytes(b"")
    (folder / "readme.txt").write_text("no mesh, and none is expected")
    return folder


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    root = tmp_path_factory.mktemp("out") / "set"
    return root, render_set(models, root, OPTIONS, workers=0, progress=False)


def test_all_readable_objects_are_there_and_the_others_are_reported(made, models):
    root, report = made
    folders = sorted(root.glob("objects_*/*"))
    assert {folder.name: folder.parent.name.removeprefix("objects_") for folder in folders} == report.splits
    assert sorted(report.splits) == [f"solid{i}" for i in range(6)]
    assert sorted(report.splits.values()).count("train") == 4
    assert [Path(file).name for file, _ in report.problems] == ["broken.glb", "empty.obj"]
    lines = (root / "problems.txt").read_text().splitlines()
    assert lines[0].startswith(f"{models / 'broken.glb'}: cannot be read")
    assert lines[1] == f"{models / 'empty.obj'}: contains no triangles"
    assert report.splits["solid2"] == report.splits["solid5"]  # one shape in two colours


def test_the_set_is_read_as_any_other_and_views_show_the_whole_object(made):
    root, report = made
    config = DataConfig(root=str(root), image_size=24)
    for split, num_views in (("train", 3), ("val", 5), ("test", 5)):
        objects = open_split(config, split)
        assert set(objects.ids) == {name for name, of in report.splits.items() if of == split}
        for index in range(len(objects)):
            assert objects.num_views(index) == num_views
            images, cameras = objects.read(index, range(num_views))
            border = images.clone()
            border[..., 1:-1, 1:-1] = 1
            assert (border == 1).all()  # nothing is cut off
            assert images.min() < 0.5
            np.testing.assert_allclose(cameras.positions.norm(dim=-1), 1.3, atol=1e-6)


def test_the_pictures_are_those_of_the_normalised_upright_mesh(made, models):
    root, report = made
    folder = root / f"objects_{report.splits['solid1']}" / "solid1"
    poses = np.stack([read_pose(path).double().numpy() for path in sorted((folder / "pose").iterdir())])
    (source,) = find_meshes(models, only="solid1")
    mesh = normalised(load_mesh(source).mesh)
    # The file's z, where the front is, becomes -x; its x becomes -y; its y, which is up, becomes z.
    turned = replace(mesh, vertices=mesh.vertices[:, [2, 0, 1]] * [-1, -1, 1])
    expected = render_meshes(turned, poses, intrinsics=INTRINSICS, height=24, width=24, lighting=three_suns)
    for kind, factor, tolerance in (("rgb", 1, 1), ("alpha", 1, 0), ("depth", DEPTH_STEPS, 1)):
        files = sorted((folder / kind).iterdir())
        pictures = np.stack([np.asarray(Image.open(file)).astype(int) for file in files])
        difference = np.abs(pictures - getattr(expected, kind) * factor)
        assert (difference > tolerance).mean() < 0.002  # poses are rounded to 9 digits in the files


def test_depth_is_that_of_a_box_by_its_slabs(made):
    root, report = made
    folder = root / f"objects_{report.splits['solid1']}" / "solid1"
    half = np.array([3, 2, 2]) / np.sqrt(17) / 2  # the box 2 x 2 x 3, its z along x
    pose = read_pose(folder / "pose" / "000000.txt").double().numpy()
    depth = np.asarray(Image.open(folder / "depth" / "000000.png")) / 10_000
    x, y = np.meshgrid((np.arange(24) + 0.5) / 24, (np.arange(24) + 0.5) / 24)
    focal = 131.25 / 128
    rays = np.stack([(x - 0.5) / focal, (y - 0.5) / focal, np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    planes = (np.stack([-half, half]) - pose[:3, 3])[:, None, None] / rays
    enter, leave = planes.min(0).max(-1), planes.max(0).min(-1)
    both = (depth > 0) & (enter < leave)
    assert both.sum() > 30
    np.testing.assert_allclose(depth[both], enter[both], atol=6e-5)
    assert ((depth > 0) != (enter < leave)).sum() <= 2


def test_every_object_has_an_attribution_and_the_sheet_a_picture_of_each(made):
    root, report = made
    header, *rows = [line.split("\t") for line in (root / "attribution.tsv").read_text().splitlines()]
    assert header == ["object", "split", "title", "category", "creator", "licence", "file"]
    assert [row[0] for row in rows] == sorted(report.splits)
    assert rows[0][-1] == "solid0.glb"
    assert Image.open(root / "contact_sheet.png").size == (4 * 24, 24)


def test_an_interrupted_run_goes_on_and_equals_one_go_bit_for_bit(made, models, tmp_path):
    root, report = made
    again = tmp_path / "again"
    render_set(models, again, OPTIONS, workers=0, progress=False)
    assert files_of(again) == files_of(root)
    kept, lost = sorted((again / "objects_train").iterdir())[:2]
    times = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    lost.rename(lost.with_name(f".{lost.name}"))  # what a killed run leaves behind
    with (again / "objects.jsonl").open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 20)  # a line that was never finished
    resumed = render_set(models, again, OPTIONS, workers=0, progress=False)
    assert files_of(again) == files_of(root)
    assert resumed.splits == report.splits
    assert [reason for _, reason in resumed.problems] == [reason for _, reason in report.problems]
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == times


def test_several_processes_do_the_same_as_one(made, models, tmp_path):
    assert render_set(models, tmp_path / "set", OPTIONS, workers=2, progress=False) == made[1]
    assert files_of(tmp_path / "set") == files_of(made[0])


def test_an_objects_views_do_not_depend_on_what_else_is_in_the_set(made, models, tmp_path):
    options = RenderOptions(**SMALL, val=0, test=0, only="solid3")
    report = render_set(models, tmp_path / "set", options, workers=0, progress=False)
    assert report.splits == {"solid3": "train"}
    name = next(name for name, split in made[1].splits.items() if split == "train" and name != "solid3")
    other = RenderOptions(**SMALL, val=0, test=0, only=name)
    render_set(models, tmp_path / "other", other, workers=0, progress=False)
    alone, among = tmp_path / "other" / "objects_train" / name, made[0] / "objects_train" / name
    pictures = [(folder / "rgb" / "000002.png").read_bytes() for folder in (alone, among)]
    assert pictures[0] == pictures[1]


def test_the_command_line_says_what_came_of_it(models, tmp_path, capsys):
    root = str(tmp_path / "set")
    assert main([str(models), "--output", root, *FLAGS]) == 1
    out = capsys.readouterr().out
    assert "6 objects (4 train, 1 val, 1 test)" in out
    assert "files that could not be used: 2" in out
    assert main([str(models), "--output", str(tmp_path / "whole"), "--only", "solid[0-2]", *FLAGS]) == 0
    assert not (tmp_path / "whole" / "problems.txt").exists()
    assert main([str(models / "solid4.off"), "--output", str(tmp_path / "one"), *FLAGS]) == 0
    assert [p.name for p in (tmp_path / "one").glob("objects_*/*")] == ["solid4"]


def test_what_objects_lack_is_said_in_the_terminal_and_in_a_file(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for number in range(12):  # each with a face that crosses itself, beside a whole one
        text = "v 0 0 0\nv 2 2 0\nv 2 0 0\nv 0 2 0\nv 0 0 1\nf 1 2 3 4\nf 1 3 5\n"
        (tmp_path / "in" / f"eight{number:02}.obj").write_text(text.replace("1\nf", f"{1 + number}\nf"))
    root, said = tmp_path / "set", "self-intersecting polygons: 1; they may not look as intended"
    assert main([str(tmp_path / "in"), "--output", str(root), *FLAGS]) == 0
    lines = [f"eight{number:02}: {said}" for number in range(12)]
    assert (root / "notes.txt").read_text().splitlines() == lines
    out = capsys.readouterr().out
    assert f"12 objects are incomplete, for example without a texture: see {root / 'notes.txt'}" in out
    assert [line.strip() for line in out.splitlines() if said in line] == lines[:10]


def test_a_set_of_nothing_usable_is_no_success(models, tmp_path, capsys):
    assert main([str(models), "--output", str(tmp_path / "set"), "--only", "broken|empty", *FLAGS]) == 1
    assert "0 objects" in capsys.readouterr().out
    assert len((tmp_path / "set" / "problems.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["INPUT"], "--output"),
        (["missing", "--output", "OUT"], "no such file"),
        (["INPUT", "--output", "OUT", "--only", "boats"], "matches 'boats'"),
        (["INPUT", "--output", "OUT", "--only", "(", "--views", "2"], "regular expression"),
        (["INPUT", "--output", "OUT", "--views", "0"], "views is 0"),
        (["INPUT", "--output", "OUT", "--val", "0.6", "--test", "0.6"], "shares"),
        (["INPUT", "--output", "OUT", "--up", "y", "--front=-y"], "perpendicular axes"),
        (["INPUT", "--output", "OUT", "--views-on", "moon"], "moon"),
        (["INPUT", "--output", "OUT", "--workers", "-1"], "workers is -1"),
        (["INPUT", "--output", "MADE", "--views", "4"], "was made with views 3 instead of 4"),
        (["INPUT", "--output", "FILE/below"], "FILE"),
    ],
)
def test_mistakes_are_told_in_one_line_and_exit_with_2(arguments, says, made, models, tmp_path, capsys):
    (tmp_path / "FILE").write_text("in the way")
    places = {
        "INPUT": models,
        "OUT": tmp_path / "out",
        "MADE": made[0],
        "FILE/below": tmp_path / "FILE/below",
    }
    words = [str(places.get(word, word)) for word in arguments]
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_set_is_not_mixed_with_that_of_other_files(made, models, tmp_path, capsys):
    for path in models.glob("solid*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    root = made[0]
    before = json.loads((root / "parameters.json").read_text())
    assert main([str(tmp_path), "--output", str(root), *FLAGS]) == 2
    assert "input_files" in capsys.readouterr().err
    assert json.loads((root / "parameters.json").read_text()) == before


def test_what_had_a_problem_is_tried_again_and_moves_no_other_object(models, tmp_path, monkeypatch):
    original, options = loading.load_mesh, RenderOptions(views=1, test_views=1, size=8, only="solid")
    whole = render_set(models, tmp_path / "whole", options, workers=0, progress=False).splits
    for number in range(6):

        def without_one(source, number=number):
            if source.name == f"solid{number}":
                raise MemoryError
            return original(source)

        root = tmp_path / str(number)
        monkeypatch.setattr("data.meshes.datasets.dataset.load_mesh", without_one)
        first = render_set(models, root, options, workers=0, progress=False)
        assert [reason for _, reason in first.problems] == ["MemoryError"]
        monkeypatch.setattr("data.meshes.datasets.dataset.load_mesh", original)
        second = render_set(models, root, options, workers=0, progress=False)
        assert second.problems == []
        assert second.splits.keys() == whole.keys()
        assert first.splits.items() <= second.splits.items()
        assert second.splits["solid2"] == second.splits["solid5"]
        folders = {folder.name: folder.parent.name for folder in root.glob("objects_*/*")}
        assert folders == {name: f"objects_{split}" for name, split in second.splits.items()}
        assert len(list(root.glob("objects_*/*"))) == 6


def test_an_object_in_a_folder_of_another_split_is_refused(models, tmp_path):
    root, options = tmp_path / "set", RenderOptions(views=1, test_views=1, size=8, only="solid")
    splits = render_set(models, root, options, workers=0, progress=False).splits
    name = next(name for name, split in splits.items() if split == "test")
    (root / "objects_train" / name).mkdir()
    with pytest.raises(ValueError, match=rf"objects_train/{name} belongs to test; delete"):
        render_set(models, root, options, workers=0, progress=False)
    (root / "splits.json").write_text("[]")
    with pytest.raises(ValueError, match=r"splits\.json is damaged"):
        render_set(models, root, options, workers=0, progress=False)


@pytest.mark.parametrize("changed", ["a.obj", "a.mtl", "wood.png"])
def test_a_changed_file_of_the_same_size_makes_another_set(changed, tmp_path, monkeypatch):
    for name in ("a.obj", "a.mtl", "wood.png", "notes.txt"):
        (tmp_path / name).write_text("1")
    monkeypatch.chdir(tmp_path.parent)
    for place in (tmp_path, Path(tmp_path.name, "a.obj")):
        sources = find_meshes(place)
        before = mesh_sets.fingerprint(sources, tmp_path / "out")
        os.utime(tmp_path / "notes.txt", ns=(0, 7))
        assert mesh_sets.fingerprint(sources, tmp_path / "out") == before
        os.utime(tmp_path / changed, ns=(0, len(str(place))))
        assert mesh_sets.fingerprint(sources, tmp_path / "out") != before


@pytest.mark.parametrize("content", ["[]", "null", "3", "{"])
def test_damaged_parameters_are_told_in_one_line(content, models, tmp_path, capsys):
    (tmp_path / "parameters.json").write_text(content)
    assert main([str(models), "--output", str(tmp_path), *FLAGS]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "parameters.json is damaged; delete" in line


def test_views_are_written_as_they_come(tmp_path):
    def pictures():
        for i in range(3):
            assert len(list(tmp_path.glob(".car/depth/*.png"))) == i
            yield MeshView(*(np.full((8, 8, *more), i, kind) for more, kind in SHAPES))

    write_object(tmp_path / "car", pictures(), spiral_poses(3))
    assert len(list((tmp_path / "car" / "pose").iterdir())) == 3
    assert (tmp_path / "car" / "intrinsics.txt").read_text().startswith("8.203125 4.000000")


def test_the_sheet_shows_large_views_small(tmp_path):
    for i, colour in enumerate(("red", "blue", "lime")):
        (tmp_path / "all" / str(i) / "rgb").mkdir(parents=True)
        Image.new("RGB", (300, 300), colour).save(tmp_path / "all" / str(i) / "rgb" / "000000.png")
    write_contact_sheet(tmp_path / "sheet.png", tmp_path / "all", columns=2)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (256, 256)
    corners = [sheet.getpixel(place) for place in ((127, 127), (128, 127), (127, 128), (128, 128))]
    assert corners == [(255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255)]


@pytest.mark.parametrize("region", ELEVATIONS_DEG)
def test_random_views_fill_their_region_evenly(region):
    poses = random_poses(4000, region, np.random.default_rng(0))
    heights = np.sort(poses[:, 2, 3]) / 1.3
    low, high = np.sin(np.radians(ELEVATIONS_DEG[region]))
    np.testing.assert_allclose(heights, np.linspace(low, high, 4000), atol=0.05)  # by area: even in height
    np.testing.assert_allclose(poses[:, :3, 3], -1.3 * poses[:, :3, 2], atol=1e-9)  # facing the origin


def test_the_spiral_ends_at_the_pole_as_published():
    poses = spiral_poses(251)
    assert poses.shape == (251, 4, 4)
    np.testing.assert_allclose(poses[0, :3, 3] / 1.3, [np.cos(20), np.sin(20), 0], atol=1e-6)
    np.testing.assert_allclose(poses[250, :3, 3] / 1.3, [0, 0, 1], atol=1e-6)


def test_help_teaches_and_comes_at_once():
    command = [sys.executable, "-X", "importtime", "-m", "scripts.render_meshes", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--group" in done.stdout
    assert "examples:" in done.stdout
    assert not [line for line in done.stderr.splitlines() if line.endswith((" torch", " trimesh", " numpy"))]
