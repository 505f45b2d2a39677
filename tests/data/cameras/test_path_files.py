"""data/cameras/path_files.py, and sample_views.py --trajectory FILE."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sample_views
from data.cameras.keyframes import CameraPath
from data.cameras.path_files import read_path, to_document, write_path
from data.cameras.pinhole import pinhole
from data.cameras.poses import orbit
from data.cameras.trajectories import trajectory
from data.cameras.transforms_json import from_transforms, to_transforms
from tests.scenes import cameras
from tests.tiny_run import save_tiny_run, tiny_config


def some_path(**changes: Any) -> CameraPath:
    poses = orbit(torch.tensor([0.1, 0.8, 2.0]), torch.tensor([0.2, 0.5, 0.1]), 1.2)
    return CameraPath(**{"cam_to_world": poses, "intrinsics": pinhole().expand(3, 3, 3), "num": 7, **changes})


@pytest.mark.parametrize("path", [some_path(), some_path(loop=True, num=3), some_path(smooth=False, num=3)])
def test_what_is_written_is_read_again(path: CameraPath, tmp_path: Path):
    write_path(tmp_path / "new" / "path.json", path)
    found = read_path(tmp_path / "new" / "path.json")
    assert (found.num, found.loop, found.smooth) == (path.num, path.loop, path.smooth)
    assert torch.equal(found.cam_to_world, path.cam_to_world)
    assert torch.equal(found.intrinsics, path.intrinsics)


def test_a_file_is_replaced_only_where_that_is_said(tmp_path: Path):
    file = tmp_path / "path.json"
    write_path(file, some_path())
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"path\.json: exists already"):
        write_path(file, some_path(num=8))
    assert file.read_bytes() == before
    write_path(file, some_path(num=8), replace=True)
    assert read_path(file).num == 8
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever a look beforehand has seen."""
    file = tmp_path / "path.json"
    file.write_text("of another program")
    monkeypatch.setattr(Path, "exists", lambda *arguments, **options: False)
    with pytest.raises(ValueError, match=r"path\.json: exists already"):
        write_path(file, some_path())
    assert file.read_text() == "of another program"
    assert list(tmp_path.iterdir()) == [file]


def test_a_focal_length_is_as_good_as_intrinsics(tmp_path: Path):
    document = to_document(some_path())
    for entry in document["keyframes"]:
        del entry["intrinsics"]
        entry["focal"] = 1.25
    (tmp_path / "path.json").write_text(json.dumps(document))
    torch.testing.assert_close(read_path(tmp_path / "path.json").intrinsics, pinhole(1.25).expand(3, 3, 3))


def test_a_transforms_file_is_a_path_of_its_own_cameras(tmp_path: Path):
    known = cameras(4)
    document = to_transforms(known, [f"{n}.png" for n in range(4)], height=20, width=30)
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    found = read_path(tmp_path / "transforms.json")
    assert not found.smooth
    torch.testing.assert_close(found.cam_to_world, known.cam_to_world)
    torch.testing.assert_close(found.intrinsics, known.intrinsics)


POSE = "keyframes[1].cam_to_world"
BAD: dict[str, tuple[Callable[[dict], Any], str]] = {
    "other format": (lambda d: d | {"format": "cameras"}, "`format`"),
    "no format": (lambda d: {k: v for k, v in d.items() if k != "format"}, "`format`"),
    "newer": (lambda d: d | {"version": 2}, "`version`"),
    "surplus": (lambda d: d | {"fps": 3}, "`fps`"),
    "both": (lambda d: d | {"cameras": d["keyframes"]}, "`keyframes`"),
    "no list": (lambda d: d | {"keyframes": {}}, "`keyframes`"),
    "empty": (lambda d: d | {"keyframes": []}, "`keyframes`"),
    "no views": (lambda d: {k: v for k, v in d.items() if k != "views"}, "`views`"),
    "half a view": (lambda d: d | {"views": 2.5}, "`views`"),
    "true views": (lambda d: d | {"views": True}, "`views`"),
    "no views at all": (lambda d: d | {"views": 0}, "`views`"),
    "loop": (lambda d: d | {"loop": 1}, "`loop`"),
    "no camera": (lambda d: changed(d, lambda c: 3), "`keyframes[1]`"),
    "unknown key": (lambda d: changed(d, lambda c: c | {"fov": 3}), "`keyframes[1]`"),
    "no pose": (lambda d: changed(d, lambda c: {"focal": 1.0}), f"`{POSE}`"),
    "short pose": (lambda d: posed(d, lambda p: p[:3]), f"`{POSE}`"),
    "short row": (lambda d: posed(d, lambda p: [p[0][:3], *p[1:]]), f"`{POSE}`"),
    "nan": (lambda d: posed(d, lambda p: [[float("nan"), *p[0][1:]], *p[1:]]), f"`{POSE}`"),
    "too large": (lambda d: posed(d, lambda p: [[10**60, *p[0][1:]], *p[1:]]), f"`{POSE}`"),
    "very many digits": (lambda d: posed(d, lambda p: [[10**400, *p[0][1:]], *p[1:]]), f"`{POSE}`"),
    "far away": (lambda d: posed(d, lambda p: [[*p[0][:3], 1e20], *p[1:]]), "camera 1"),
    "huge focal": (lambda d: focal(d, 10**400), "`keyframes[1].focal`"),
    "tiny focal": (lambda d: focal(d, 1e-60), "`keyframes[1].focal`"),
    "negative focal": (lambda d: focal(d, -1.0), "`keyframes[1].focal`"),
    "odd principal point": (
        lambda d: changed(d, lambda c: c | {"intrinsics": [[1, 0, 10**400], [0, 1, 0.5], [0, 0, 1]]}),
        "`keyframes[1].intrinsics`",
    ),
    "tiny lens": (
        lambda d: changed(d, lambda c: c | {"intrinsics": [[1e-60, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]}),
        "`keyframes[1].intrinsics`",
    ),
    "words": (lambda d: posed(d, lambda p: [["a", *p[0][1:]], *p[1:]]), f"`{POSE}`"),
    "scaled": (lambda d: posed(d, lambda p: [[2 * x for x in row] for row in p]), f"`{POSE}`"),
    "mirrored": (lambda d: posed(d, lambda p: [[-p[0][0], *p[0][1:]], *p[1:]]), f"`{POSE}`"),
    "origin": (
        lambda d: posed(d, lambda p: [[*row[:3], float(i == 3)] for i, row in enumerate(p)]),
        f"`{POSE}`",
    ),
    "no lens": (lambda d: changed(d, lambda c: {"cam_to_world": c["cam_to_world"]}), "`keyframes[1]`"),
    "two lenses": (lambda d: changed(d, lambda c: c | {"focal": 1.0}), "`keyframes[1]`"),
    "no focal": (
        lambda d: changed(d, lambda c: {"cam_to_world": c["cam_to_world"], "focal": 0}),
        "`keyframes[1].focal`",
    ),
    "skewed": (
        lambda d: changed(d, lambda c: c | {"intrinsics": [[1, 0.1, 0.5], [0, 1, 0.5], [0, 0, 1]]}),
        "`keyframes[1].intrinsics`",
    ),
    "twice": (lambda d: changed(d, lambda c: d["keyframes"][0]), "keyframes 0 and 1 are the same"),
    "list": (lambda d: [d], "JSON object"),
}


def changed(document: dict, change: Callable[[dict], Any]) -> dict:
    """The document with another second keyframe."""
    first, second, *rest = document["keyframes"]
    return document | {"keyframes": [first, change(second), *rest]}


def posed(document: dict, change: Callable[[list], list]) -> dict:
    """The document with another second pose."""
    return changed(document, lambda camera: camera | {"cam_to_world": change(camera["cam_to_world"])})


def focal(document: dict, value: float) -> dict:
    """The document with another second focal length."""
    return changed(document, lambda camera: {"cam_to_world": camera["cam_to_world"], "focal": value})


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_line_that_names_file_and_key(kind: str, tmp_path: Path):
    spoil, key = BAD[kind]
    file = tmp_path / "path.json"
    file.write_text(json.dumps(spoil(to_document(some_path()))))
    with pytest.raises(ValueError, match=re.escape(key)) as caught:
        read_path(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"camera_angle_x": 1e-320}, "`camera_angle_x`"),
        ({"camera_angle_x": 10**400}, "`camera_angle_x`"),
        ({"camera_angle_x": 5e-324, "w": 3, "h": 2}, "`camera_angle_x`"),
        ({"fl_x": 1e38, "w": 1e-30, "h": 1e-30}, "intrinsics"),
        ({"fl_x": 10**400, "w": 3, "h": 2}, "`fl_x`"),
        ({"camera_angle_x": 1.0, "frames": [(1e20, 0.0)]}, "camera 0"),
        ({"camera_angle_x": 1.0, "frames": [(10**400, 0.0)]}, "`transform_matrix`"),
    ],
)
def test_numbers_of_a_transforms_file_that_no_camera_has_are_one_line(
    tmp_path: Path, changes: dict, key: str
):
    document = {"frames": [(1.3, 0.0)], **changes}
    document["frames"] = [
        {"file_path": "0.png", "transform_matrix": [[1, 0, 0, y], [0, 1, 0, 0], [0, 0, 1, x], [0, 0, 0, 1]]}
        for x, y in document["frames"]
    ]
    file = tmp_path / "transforms.json"
    file.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=re.escape(key)) as caught:
        read_path(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "", "\x00", "[" * 100_000])
def test_what_is_no_json_is_one_line(content: str, tmp_path: Path):
    file = tmp_path / "path.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"path\.json: is not JSON") as caught:
        read_path(file)
    assert "\n" not in str(caught.value)


def test_the_example_of_the_documentation_is_a_path(tmp_path: Path):
    page = (Path(__file__).parents[3] / "docs" / "viewer.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```json\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "path.json").write_text(example)
    found = read_path(tmp_path / "path.json")
    azimuth = torch.tensor([0.0, torch.pi / 2])
    torch.testing.assert_close(found.cam_to_world, orbit(azimuth, torch.zeros(2), 1.3), atol=1e-6, rtol=0)


def test_the_working_volume_is_that_of_the_reference(tmp_path: Path):
    write_path(tmp_path / "path.json", some_path())
    reference = cameras(1, object_radius=0.37)[0]
    found = trajectory(str(tmp_path / "path.json"), reference, 5)
    torch.testing.assert_close(found.far - found.near, torch.full((5,), 0.74))
    torch.testing.assert_close(found.near + found.far, 2 * found.positions.norm(dim=-1))


@pytest.fixture(scope="module")
def program(
    tmp_path_factory: pytest.TempPathFactory, plant_object: Callable[..., Path]
) -> Callable[..., int]:
    """program(flags, output): the sampling program on a tiny model and set; its exit code."""
    folder = tmp_path_factory.mktemp("paths")
    plant_object(folder / "data" / "cars_val" / "bb", num_views=3, size=(9, 9))
    run = save_tiny_run(tiny_config(folder / "data", folder))

    def program(*flags: object) -> int:
        return sample_views.main(["--transfer", str(run), "--steps", "2", *map(str, flags)])

    return program


def test_sampling_follows_a_path_file_and_views_says_how_many(program, tmp_path: Path):
    write_path(tmp_path / "path.json", some_path())
    for flags, num in ((["--views", "4"], 4), ([], 7)):
        output = tmp_path / f"out{num}"
        assert program("--trajectory", tmp_path / "path.json", "--output", output, *flags) == 0
        found, _ = from_transforms(json.loads((output / "transforms.json").read_text()))
        expected = some_path().cameras(num)
        torch.testing.assert_close(found.cam_to_world, expected.cam_to_world)
        torch.testing.assert_close(found.intrinsics, expected.intrinsics)
        assert len(list(output.glob("view_*.png"))) == num
    # What was written is a path as well.
    again = tmp_path / "again"
    assert program("--trajectory", tmp_path / "out4/transforms.json", "--output", again, "--views", 2) == 0
    assert len(list(again.glob("view_*.png"))) == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.json", None, "cannot be read"),
        ("path.json", "{}", "`format`"),
        ("path", "{}", "--trajectory"),
    ],
)
def test_a_path_that_cannot_be_used_is_one_line_of_the_program(
    program, tmp_path, capsys, name, content, said
):
    file = tmp_path / name
    if content is not None:
        file.write_text(content)
    try:
        code = program("--trajectory", file, "--output", tmp_path / "out")
    except SystemExit as error:
        code = error.code
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(file) in line
    assert said in line
    assert not (tmp_path / "out").exists()


def test_more_views_than_a_path_of_cameras_has_are_refused(program, tmp_path, capsys):
    write_path(tmp_path / "path.json", some_path(smooth=False, num=3))
    assert program("--trajectory", tmp_path / "path.json", "--views", 4, "--output", tmp_path / "out") == 2
    assert f"{tmp_path / 'path.json'}: 4 views requested" in capsys.readouterr().err
