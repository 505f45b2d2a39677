"""python -m scripts.check_data: silent on honest sets, and each planted fault found, in the right file."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import scripts.check_data
from data.cameras.poses import turntable
from data.checks.check_object import Summary, check_object
from data.checks.findings import CHECKS, Finding
from data.checks.open_splits import open_splits
from data.formats.srn.layout import pair_files
from data.meshes.ray_casting import render_meshes
from data.shapes.cars import car
from scripts.check_data import Options, check, main
from scripts.common.shapes_set import ShapesOptions, make_shapes

CHANNELS = ("rgb", "alpha", "depth")
Plant = Callable[[Path], None]


@pytest.fixture(scope="session")
def honest(tmp_path_factory) -> Path:
    """Two training cars and another one, 24 views of 40 x 40 each, with depth and alpha."""
    root = tmp_path_factory.mktemp("check") / "honest"
    options = ShapesOptions(objects=2, views=24, size=40, val=1)
    make_shapes(root, options, workers=1, progress=False)
    return root


@pytest.fixture(scope="session")
def pictures_only(honest) -> Path:
    """The same without depth and alpha."""
    root = honest.with_name("pictures_only")
    shutil.copytree(honest, root, ignore=shutil.ignore_patterns("depth", "alpha"))
    return root


@pytest.fixture
def plant(honest, pictures_only, tmp_path) -> Callable[..., list[Finding]]:
    """plant(fault): what is found in the first car of a copy, or in all, after `fault` changed it."""

    def planted(
        fault: Plant, *, geometry: bool = False, all_objects: bool = False, object_radius: float | None = None
    ) -> list[Finding]:
        root = tmp_path / "root"
        shutil.copytree(honest if geometry else pictures_only, root)
        fault(first_object(root))
        if all_objects:
            return check(Options(root), workers=1, progress=False)[1]
        # The others are as they were, and an honest set is silent.
        return list(check_object(open_splits(root)[0][0], 0, object_radius=object_radius).findings)

    return planted


def first_object(root: Path) -> Path:
    return sorted((root / "cars_train").iterdir())[0]


def picture(folder: Path, view: int, kind: str = "rgb") -> Path:
    return folder / kind / f"{view:06d}.png"


def pose(folder: Path, view: int) -> Path:
    return folder / "pose" / f"{view:06d}.txt"


def read_pose(path: Path) -> np.ndarray:
    return np.array(path.read_text().split(), float).reshape(4, 4)


def write_pose(path: Path, matrix: np.ndarray) -> None:
    path.write_text(" ".join(f"{number:.9g}" for number in matrix.ravel()))


def change_picture(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels = np.asarray(Image.open(path))
    Image.fromarray(np.ascontiguousarray(change(pixels))).save(path)


def change_poses(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in (folder / "pose").iterdir():
        write_pose(path, change(read_pose(path)))


def exchange(first: Path, second: Path) -> None:
    contents = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(contents)


def grave(findings: list[Finding]) -> set[tuple[str, str, str]]:
    """(check, severity, name of the file or folder) of errors and warnings."""
    return {(f.check, f.severity, Path(f.place).name) for f in findings if f.severity != "note"}


def notes(findings: list[Finding], name: str) -> list[str]:
    return [f.message for f in findings if f.check == name and f.severity == "note"]


# An honest set is silent, so that whatever is found after planting is the fault.


@pytest.mark.parametrize("options", [{}, {"quick": True}, {"object_radius": 0.55}], ids=str)
def test_an_honest_set_is_silent(honest, options):
    summaries, findings = check(Options(honest, **options), workers=1, progress=False)
    assert not grave(findings)
    assert [summary.num_read for summary in summaries] == [24] * 3


def test_an_honest_set_without_depth_and_alpha_is_silent(pictures_only):
    assert not grave(check(Options(pictures_only), workers=1, progress=False)[1])


@pytest.mark.parametrize("elevation_deg", [0.0, 30.0])
def test_cameras_in_a_ring_are_silent(pictures_only, tmp_path, elevation_deg):
    """From a ring, the silhouettes leave room for much more than the object."""
    poses = turntable(24, elevation_deg).double().numpy()
    intrinsics = np.array([[131.25 / 128, 0, 0.5], [0, 131.25 / 128, 0.5], [0, 0, 1]])
    root = tmp_path / "ring"
    for number in range(2):  # a single object cannot be split
        shutil.copytree(first_object(pictures_only), root / str(number))
        views = render_meshes(car(number), poses, intrinsics=intrinsics, height=32, width=32, samples=1)
        for view, pixels in enumerate(views.rgb):
            Image.fromarray(pixels).save(picture(root / str(number), view))
            write_pose(pose(root / str(number), view), poses[view])
        (root / str(number) / "intrinsics.txt").write_text(f"{131.25 / 4} 16 16 0.\n0 0 0\n1\n32 32\n")
    assert not grave(check(Options(root), workers=1, progress=False)[1])


# Files.


def test_a_picture_without_its_pose_is_named_and_the_other_objects_are_checked(plant):
    findings = plant(lambda car: pose(car, 5).unlink(), all_objects=True)
    assert grave(findings) == {("layout", "error", "000005.png")}


def test_an_object_without_poses_does_not_keep_the_others_from_being_checked(plant):
    def fault(car):
        shutil.rmtree(car / "pose")
        change_picture(picture(car.parent / "000001_pickup", 7), np.zeros_like)

    findings = plant(fault, all_objects=True)
    assert {("layout", "error", "000000_delivery"), ("background", "warning", "000007.png")} <= grave(
        findings
    )


def test_all_broken_poses_are_named(plant):
    def fault(car):
        pose(car, 3).write_text("1 2 3")
        pose(car, 9).write_text("nan " * 16)

    assert grave(plant(fault)) == {("layout", "error", "000003.txt"), ("layout", "error", "000009.txt")}


def test_a_truncated_picture_is_named(plant):
    findings = plant(lambda car: picture(car, 4).write_bytes(picture(car, 4).read_bytes()[:90]))
    assert grave(findings) == {("unreadable", "error", "000004.png")}


def test_unreadable_depth_is_named(plant):
    findings = plant(lambda car: picture(car, 4, "depth").write_bytes(b"nothing"), geometry=True)
    assert next(f.place for f in findings if f.check == "unreadable").endswith("depth/000004.png")


# Cameras.


def test_a_scaled_rotation_is_found(plant):
    def fault(car):
        matrix = read_pose(pose(car, 2))
        matrix[:3, :3] *= 1.2
        write_pose(pose(car, 2), matrix)

    assert grave(plant(fault)) == {("layout", "error", "000002.txt")}


def test_a_camera_that_looks_away_is_found(plant):
    findings = plant(lambda car: write_pose(pose(car, 2), read_pose(pose(car, 2)) * [1, -1, -1, 1]))
    assert ("aim", "error", "000002.txt") in grave(findings)
    assert {name for _, _, name in grave(findings)} == {"000002.txt"}


def test_a_camera_that_looks_past_the_object_is_found(plant):
    def fault(car):
        matrix = read_pose(pose(car, 2))
        matrix[:3, 3] += 0.4 * matrix[:3, 0]
        write_pose(pose(car, 2), matrix)

    assert ("aim", "warning", "000002.txt") in grave(plant(fault))


def test_world_to_camera_matrices_are_recognised(plant):
    findings = plant(lambda car: change_poses(car, np.linalg.inv))
    [found] = [f for f in findings if f.check == "same poses"]
    assert found.severity == "error"
    assert "world-to-camera" in found.message


def test_equal_poses_are_found(plant):
    def fault(car):
        one = read_pose(pose(car, 0))
        change_poses(car, lambda _: one)

    assert grave(plant(fault)) == {("same poses", "error", "000000_delivery")}


def test_a_pose_that_occurs_twice_is_found(plant):
    findings = plant(lambda car: shutil.copy(pose(car, 6), pose(car, 17)))
    assert ("repeated pose", "warning", "000017.txt") in grave(findings)


def test_another_up_axis_is_found(plant):
    to_y_up = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    findings = plant(lambda car: change_poses(car, lambda matrix: to_y_up @ matrix))
    assert grave(findings) == {("upright", "warning", "000000_delivery")}
    assert "along y" in next(f.message for f in findings if f.check == "upright")


def test_a_rolled_camera_is_found(plant):
    def fault(car):
        write_pose(pose(car, 2), read_pose(pose(car, 2)) @ np.diag([-1.0, -1, 1, 1]))
        turn = np.eye(4)
        turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
        write_pose(pose(car, 3), read_pose(pose(car, 3)) @ turn)

    found = grave(plant(fault))
    assert {("upright", "warning", "000002.txt"), ("upright", "warning", "000003.txt")} <= found


# Intrinsics and sizes.


def test_a_principal_point_far_from_the_middle_is_found(plant):
    def fault(car):
        text = (car / "intrinsics.txt").read_text()
        (car / "intrinsics.txt").write_text(text.replace("20.000000 20.000000", "20.000000 40.000000"))

    assert grave(plant(fault)) == {("principal point", "error", "000000_delivery")}


def test_intrinsics_that_make_oblong_pixels_are_found(plant):
    def fault(car):
        (car / "intrinsics").mkdir()
        for view in range(24):
            text = "41.015625 0 20 0 49 20 0 0 1"
            (car / "intrinsics" / f"{view:06d}.txt").write_text(text)

    assert ("pixel shape", "warning", "000000_delivery") in grave(plant(fault))


def test_one_view_of_another_focal_length_is_found(plant):
    def fault(car):
        (car / "intrinsics").mkdir()
        (car / "intrinsics" / "000004.txt").write_text("60 0 20 0 60 20 0 0 1")

    assert ("focal length", "warning", "000004.png") in grave(plant(fault))


def test_a_picture_of_another_size_is_found(plant):
    def fault(car):
        Image.open(picture(car, 8)).resize((52, 52), Image.Resampling.BOX).save(picture(car, 8))

    assert grave(plant(fault)) == {("size", "warning", "000008.png")}


# Pictures.


def test_an_all_white_object_is_found(plant):
    def fault(car):
        for view in range(24):
            change_picture(picture(car, view), lambda pixels: np.full_like(pixels, 255))

    assert grave(plant(fault)) == {("blank", "error", "000000_delivery")}


def test_a_blank_view_is_found(plant):
    findings = plant(lambda car: change_picture(picture(car, 8), lambda pixels: np.full_like(pixels, 255)))
    assert grave(findings) == {("blank", "error", "000008.png")}


def test_a_black_background_is_found(plant):
    def fault(car):
        for view in range(24):
            change_picture(picture(car, view), lambda pixels: np.where(pixels > 250, 0, pixels))

    findings = plant(fault)
    assert grave(findings) == {("background", "warning", "000000_delivery")}
    assert "black" in next(f.message for f in findings if f.check == "background")


def test_transparent_pixels_are_noted(plant):
    def fault(car):
        for view in range(24):
            pixels = np.asarray(Image.open(picture(car, view)))
            covered = (pixels < 250).any(axis=2, keepdims=True)
            hidden = np.where(covered, pixels, 0)
            Image.fromarray(np.concatenate([hidden, covered * np.uint8(255)], 2)).save(picture(car, view))

    findings = plant(fault)
    assert not grave(findings)
    assert len(notes(findings, "transparency")) == 1


def test_an_object_that_the_edge_cuts_is_found(plant):
    findings = plant(lambda car: change_picture(picture(car, 8), lambda pixels: np.roll(pixels, 14, axis=1)))
    assert ("cut by edge", "warning", "000008.png") in grave(findings)


def test_a_picture_that_occurs_twice_is_found(plant):
    findings = plant(lambda car: shutil.copy(picture(car, 6), picture(car, 17)))
    assert ("repeated picture", "warning", "000017.png") in grave(findings)


# Cameras and pictures that do not belong together. Views 3 and 12 show different sides of the car; view 14
# is no more its own mirror image than it is symmetric top to bottom.


@pytest.mark.parametrize("geometry", [False, True], ids=["silhouettes", "depth"])
def test_two_views_that_were_swapped_are_found(plant, geometry):
    def fault(car):
        for kind in CHANNELS[: 3 if geometry else 1]:
            exchange(picture(car, 3, kind), picture(car, 12, kind))

    findings = plant(fault, geometry=geometry)
    assert grave(findings) == {("swapped", "error", "000003.png"), ("swapped", "error", "000012.png")}


def test_two_poses_that_were_swapped_are_found_alike(plant):
    findings = plant(lambda car: exchange(pose(car, 3), pose(car, 12)))
    assert grave(findings) == {("swapped", "error", "000003.png"), ("swapped", "error", "000012.png")}


TURNS = {"mirrored": lambda pixels: pixels[:, ::-1], "upside down": lambda pixels: pixels[::-1]}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("geometry", [False, True], ids=["silhouettes", "depth"])
def test_one_turned_view_is_found(plant, turn, geometry):
    def fault(car):
        for kind in CHANNELS[: 3 if geometry else 1]:
            change_picture(picture(car, 14, kind), TURNS[turn])

    assert grave(plant(fault, geometry=geometry)) == {(turn, "error", "000014.png")}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("geometry", [False, True], ids=["silhouettes", "depth"])
def test_an_object_whose_views_are_all_turned_is_found(plant, turn, geometry):
    def fault(car):
        for view in range(24):
            for kind in CHANNELS[: 3 if geometry else 1]:
                change_picture(picture(car, view, kind), TURNS[turn])

    assert grave(plant(fault, geometry=geometry)) == {(turn, "error", "000000_delivery")}


@pytest.mark.parametrize("geometry", [False, True], ids=["silhouettes", "depth"])
def test_mirrored_poses_are_found(plant, geometry):
    mirror = np.diag([-1.0, 1, 1, 1])  # of the world, and of the camera so that it stays a rotation
    findings = plant(lambda car: change_poses(car, lambda m: mirror @ m @ mirror), geometry=geometry)
    assert grave(findings) == {("mirrored", "error", "000000_delivery")}


@pytest.mark.parametrize("geometry", [False, True], ids=["silhouettes", "depth"])
def test_poses_of_other_pictures_are_found(plant, geometry):
    def fault(car):
        contents = [pose(car, view).read_text() for view in range(24)]
        for view in range(24):
            pose(car, view).write_text(contents[(view + 5) % 24])

    assert grave(plant(fault, geometry=geometry)) == {("inconsistent", "error", "000000_delivery")}


# Depth and alpha.


def test_a_picture_that_is_mirrored_beside_its_alpha_is_found(plant):
    findings = plant(lambda car: change_picture(picture(car, 14), TURNS["mirrored"]), geometry=True)
    assert grave(findings) == {("mirrored", "error", "000014.png")}


def test_inverted_alpha_is_found(plant):
    findings = plant(lambda car: change_picture(picture(car, 4, "alpha"), lambda a: 255 - a), geometry=True)
    assert ("alpha", "error", "000004.png") in grave(findings)


def test_depth_that_is_not_where_alpha_is_is_found(plant):
    def fault(car):
        change_picture(picture(car, 4, "depth"), lambda depth: np.roll(depth, 5, axis=0))

    assert ("depth", "error", "000004.png") in grave(plant(fault, geometry=True))


def test_depth_in_millimetres_is_found(plant):
    def fault(car):
        for view in range(24):
            change_picture(picture(car, view, "depth"), lambda depth: (depth // 10).astype(np.uint16))

    findings = plant(fault, geometry=True)
    assert grave(findings) == {("depth", "error", "000000_delivery")}
    message = next(f.message for f in findings if f.check == "depth")
    assert "in units of 10 scene units" in message
    assert "set data.depth_scale=10 " in message


@pytest.mark.parametrize("geometry", [False, True], ids=["silhouettes", "depth"])
def test_a_working_volume_that_cuts_the_object_is_found(plant, geometry):
    findings = plant(lambda car: None, geometry=geometry, object_radius=0.3)
    assert grave(findings) == {("cut by near or far", "warning", "000000_delivery")}


# Between objects.


def test_pictures_in_two_splits_are_found(plant):
    findings = plant(
        lambda car: shutil.copytree(car, car.parent.parent / "cars_val" / "other"), all_objects=True
    )
    [found] = [f for f in findings if f.check == "same picture"]
    assert (found.severity, found.object_id, Path(found.place).name) == ("error", "other", "000000.png")
    assert "000000_delivery/rgb/000000.png" in found.message


def test_an_id_in_two_splits_is_found(plant):
    def fault(car):
        other = next((car.parent.parent / "cars_val").iterdir())
        other.rename(other.with_name(car.name))

    findings = plant(fault, all_objects=True)
    assert grave(findings) == {("same id", "warning", "000000_delivery")}


def test_an_object_that_was_rendered_again_for_another_split_is_found(plant):
    def fault(car):
        copy = car.parent.parent / "cars_val" / "again"
        shutil.copytree(car, copy)
        for view in range(24):  # one level darker: no picture is the same
            change_picture(
                picture(copy, view), lambda pixels: np.where(pixels > 0, pixels - 1, 0).astype(np.uint8)
            )

    assert grave(plant(fault, all_objects=True)) == {("look-alike", "warning", "again")}


# The program.


def test_the_exit_code_and_the_table_say_what_was_found(pictures_only, tmp_path, capsys):
    assert main([str(pictures_only), "--workers", "1"]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    root = tmp_path / "root"
    shutil.copytree(pictures_only, root)
    path = picture(first_object(root), 4)
    path.write_bytes(b"nothing")
    assert main([str(root), "--workers", "1"]) == 1
    shown = capsys.readouterr().out
    assert path.relative_to(root).as_posix() in shown
    assert "1 error," in shown


def test_reports_and_pictures_are_written(pictures_only, tmp_path, capsys):
    root, output = tmp_path / "root", tmp_path / "out"
    shutil.copytree(pictures_only, root)
    car = first_object(root)
    for view in range(6):
        picture(car, view).write_bytes(b"nothing")
    assert main([str(root), "--output", str(output), "--workers", "1"]) == 1
    report = json.loads((output / "report.json").read_text())
    files = [Path(found["place"]).name for found in report["findings"] if found["severity"] == "error"]
    assert files == [f"{view:06d}.png" for view in range(6)]  # the table names two of them
    assert all(name in (output / "REPORT.md").read_text() for name in files)
    sheet = np.asarray(Image.open(output / "objects.png").convert("RGB")).reshape(-1, 3)
    assert ((sheet == (214, 39, 40)).all(axis=1)).sum() > 300  # one red frame
    assert np.asarray(Image.open(output / "cameras.png")).std() > 5


@pytest.mark.parametrize(
    "arguments",
    [["/nowhere"], [".", "--object-radius", "-1"], [".", "--workers", "0"], [".", "--layout", "x"]],
)
def test_mistakes_of_usage_are_one_line_and_exit_code_2(arguments, capsys):
    try:
        code = main(arguments)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_every_check_has_a_name_and_a_promise():
    assert len(CHECKS) > 25
    with pytest.raises(AssertionError):
        Finding("no such check", "error", "train", "a", "b", "c")


def test_several_processes_find_the_same(pictures_only):
    alone = check(Options(pictures_only), workers=1, progress=False)[1]
    assert check(Options(pictures_only), workers=2, progress=False)[1] == alone


def test_an_object_that_ends_its_process_is_named_and_the_others_are_checked(pictures_only, monkeypatch):
    monkeypatch.setattr(scripts.check_data, "_check_task", end_the_process_of_the_second)
    summaries, findings = check(Options(pictures_only), workers=2, progress=False)
    killed = [found for found in findings if found.check == "unreadable"]
    assert [found.place for found in killed] == [summaries[1].place]
    assert "was not checked: its process died (exit code 7)" in killed[0].message
    assert [summary.num_read for summary in summaries] == [1, 0, 1]


def end_the_process_of_the_second(options: Options, number: int, index: int) -> Summary:
    if (number, index) == (0, 1):
        os._exit(7)
    return Summary(("train", "val")[number], str(index), "here", (), stored=1, num_read=1)


def test_the_planted_views_pair_with_their_poses(pictures_only):
    """What the tests above count on: the names of pictures and poses."""
    assert [path.name for path, _ in pair_files(first_object(pictures_only))][12] == "000012.png"
