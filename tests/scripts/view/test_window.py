"""The viewer without a browser: what its windows show and do, asked over viser's own protocol."""

import re
import shlex
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.cameras.path_files import read_path
from data.cameras.pinhole import Cameras, pinhole
from data.cameras.poses import orbit
from data.images.display import colourise
from data.images.pixels import to_uint8
from tests.tiny_run import save_tiny_run, tiny_config

pytest.importorskip("viser", reason="pip install -r requirements-viewer.txt")

from scripts.sampling.arguments import make_parser
from scripts.view import __main__ as view
from scripts.view.browser_camera import BrowserCamera, browser_camera_at
from scripts.view.frames import OUTSIDE
from scripts.view.server import Viewer
from scripts.view.window.session import REST_S
from tests.fake_browser import FakeBrowser

pytestmark = pytest.mark.filterwarnings("ignore:Queued .* on a closed connection")
HEIGHT = 24  # of previews at rest; half while the camera moves


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, plant_object: Callable[..., Path]) -> list[str]:
    """Arguments for a tiny model and a tiny set of two objects."""
    folder = tmp_path_factory.mktemp("viewer")
    for name, num_views in (("bb", 5), ("ccc", 3)):
        plant_object(folder / "data" / "cars_val" / name, num_views=num_views, size=(32, 32))
    run = save_tiny_run(tiny_config(folder / "data", folder))
    return [
        str(run),
        "--port",
        "0",
        "--size",
        str(HEIGHT),
        "--output",
        str(folder / "paths"),
        "--device",
        "cpu",
    ]


@pytest.fixture(scope="module")
def viewer(command: list[str]) -> Iterator[Viewer]:
    opened = view.open_viewer(view.view_request(view.make_parser().parse_args(command)))
    yield opened
    opened.stop()


@pytest.fixture
def browse(viewer: Viewer) -> Iterator[Callable[..., FakeBrowser]]:
    """browse(eye): a browser that has been shown its first picture."""
    opened = []

    def browse(eye: BrowserCamera | None = None) -> FakeBrowser:
        opened.append(FakeBrowser(viewer.url, eye or some_eye()))
        opened[-1].wait(lambda: opened[-1].background is not None, "a first picture")
        return opened[-1]

    yield browse
    for browser in opened:
        browser.close()
    until(lambda: not viewer.windows)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def some_eye(azimuth: float = 0.7, aspect: float = 1.0, elevation: float = 0.4) -> BrowserCamera:
    pose = orbit(torch.tensor(azimuth), torch.tensor(elevation), 1.3)
    return browser_camera_at(pose, pinhole(), aspect=aspect)


def rest_at(viewer: Viewer, browser: FakeBrowser, eye: BrowserCamera) -> None:
    """Look from there until a window has sent its picture at rest."""
    browser.look(eye)

    def sent() -> bool:
        windows = [window.session for window in list(viewer.windows.values())]
        return any(one._sent == (one._wanted(), True) and near(one.eye, eye) for one in windows)

    browser.wait(sent, "rest")


def near(one: BrowserCamera, other: BrowserCamera) -> bool:
    return one.aspect == pytest.approx(other.aspect, abs=0.01) and np.allclose(one.position, other.position)


def shows(browser: FakeBrowser, expected: torch.Tensor, tolerance: int = 1) -> np.ndarray:
    """The background once it is as expected."""
    wanted = expected.numpy().astype(int)

    def alike() -> bool:
        shown = browser.background
        return shown.shape == wanted.shape and np.abs(shown.astype(int) - wanted).max() <= tolerance

    browser.wait(alike, "the picture that is expected")
    return browser.background.astype(int)


def seen(found: Any) -> torch.Tensor:
    """The picture of a rendering."""
    return to_uint8(2 * found.latent[0, 0, :3] - 1)


@torch.no_grad()
def rendered(viewer: Viewer, cameras: Cameras, views: list[int], size: int = HEIGHT, name: str = "bb"):
    """What the renderer gives for cameras [n] of an object, by the shortest way."""
    engine = viewer.engine
    objects = engine.subjects.objects
    source = objects.read_views(objects.ids.index(name), views)
    found = engine.model.render(
        engine.model.encode(source), cameras.apply(lambda t: t[None]), size=(size, size)
    )
    return found


def test_a_window_at_a_camera_of_the_data_shows_what_the_renderer_gives_for_that_camera(viewer, browse):
    cameras = viewer.engine.subjects.objects.read_views(0, [3]).cameras[0]
    browser = browse(browser_camera_at(cameras.cam_to_world[0], cameras.intrinsics[0]))
    shown = shows(browser, seen(rendered(viewer, cameras, [0])))
    expected = seen(rendered(viewer, cameras, [0])).numpy().astype(int)
    assert expected.std() > 5  # there is something to see
    for turned in (np.flip(expected, 0), np.flip(expected, 1), expected.swapaxes(0, 1)):
        assert np.abs(shown - turned).max() > 20


def test_the_middle_of_a_wide_window_is_the_square_and_its_sides_are_darker(viewer, browse):
    browser = browse(some_eye(0.9, aspect=2.0))
    browser.wait(lambda: browser.background.shape == (HEIGHT, 2 * HEIGHT, 3))
    wide = browser.background.astype(int)
    square = some_eye(0.9).square(viewer.engine.encode("bb", [0]).radius)[0]
    expected = seen(rendered(viewer, square, [0])).numpy().astype(int)
    assert np.abs(wide[:, HEIGHT // 2 : -HEIGHT // 2] - expected).max() <= 1
    assert wide[:, : HEIGHT // 2].max() <= round(255 * OUTSIDE)


def test_pictures_are_coarse_while_the_camera_moves_and_fine_once_it_rests(browse):
    browser = browse()
    browser.wait(lambda: len(browser.background) == HEIGHT)
    for step in range(3):
        before = browser.num_backgrounds
        browser.look(some_eye(1.0 + 0.1 * step))
        browser.wait(lambda before=before: browser.num_backgrounds > before)
        assert len(browser.background) == HEIGHT // 2
        browser.wait(lambda: len(browser.background) == HEIGHT)
        assert browser.num_backgrounds == before + 2
    browser.idle(2 * REST_S)
    assert browser.num_backgrounds == before + 2  # nothing changes, so nothing is sent


def test_depth_opacity_and_channels_are_those_of_the_renderer(viewer, browse):
    browser, eye = browse(), some_eye(2.0)
    rest_at(viewer, browser, eye)
    camera = eye.square(viewer.engine.encode("bb", [0]).radius)[0]
    found = rendered(viewer, camera, [0])
    near, far = float(camera.near), float(camera.far)
    surface = found.depth + (1 - found.opacity) * camera.far
    expected = {
        "Depth": colourise(surface[0, 0, 0], near, far),
        "Opacity": colourise(found.opacity[0, 0, 0], 0, 1),
        "Latent": colourise(found.latent[0, 0, 2], 0, 1),
    }
    browser.use("Channel", 2)
    for kind, picture in expected.items():
        browser.use("Show", kind)
        shows(browser, picture, tolerance=3)
    assert browser.controls["Channel"]["visible"]


def test_windows_have_cameras_and_settings_of_their_own(viewer, browse):
    one, two = browse(), browse()
    eyes = some_eye(0.2), some_eye(2.5)
    for browser, eye in zip((one, two), eyes, strict=True):
        browser.look(eye)
        camera = eye.square(viewer.engine.encode("bb", [0]).radius)[0]
        shows(browser, seen(rendered(viewer, camera, [0])))
    shown, before = two.num_backgrounds, one.num_backgrounds
    one.use("Show", "Depth")
    one.wait(lambda: one.num_backgrounds == before + 2)
    two.idle(0.3)
    assert two.num_backgrounds == shown


def test_input_views_can_be_chosen_added_and_removed(viewer, browse):
    browser = browse()
    nodes = lambda: sorted(name for name in browser.scene if name.startswith("/input/"))  # noqa: E731
    assert nodes() == ["/input/0"]
    cameras = viewer.engine.subjects.objects.cameras(0)
    browser.look(browser_camera_at(cameras.cam_to_world[3], cameras.intrinsics[3]))
    picture = shows(browser, seen(rendered(viewer, cameras[[3]], [0])))
    browser.use("GuiButtonGroupMessage 4", "Add nearest")  # view 3, where it stands
    browser.wait(lambda: browser.controls["Input views"]["value"] == "0 3", "the numbers")
    browser.wait(lambda: nodes() == ["/input/0", "/input/1"], "two frusta")
    both = shows(browser, seen(rendered(viewer, cameras[[3]], [0, 3])))
    assert np.abs(both - picture).max() > 3
    browser.use("GuiButtonGroupMessage 4", "Remove last")
    browser.wait(lambda: browser.controls["Input views"]["value"] == "0")
    browser.use("GuiButtonGroupMessage 4", "Remove last")
    browser.wait(lambda: "one input view must stay" in browser.text())
    browser.use("Input views", "1, 9")
    browser.wait(lambda: "there is no view 9: bb has views 0 to 4" in browser.text())
    browser.use("Input views", "4 1")
    browser.wait(lambda: nodes() == ["/input/0", "/input/1"])
    browser.use("Object", "ccc")
    browser.wait(lambda: nodes() == ["/input/0"] and browser.controls["Input views"]["value"] == "0")
    browser.use("Input views", "2")
    eye = some_eye(2.2)
    browser.look(eye)
    radius = viewer.engine.encode("ccc", [2]).radius
    shows(browser, seen(rendered(viewer, eye.square(radius)[0], [2], name="ccc")))


def test_what_is_typed_is_encoded_once_it_is_complete_and_left_alone(viewer, browse, monkeypatch):
    browser, asked = browse(), []
    original = viewer.engine.encode
    monkeypatch.setattr(viewer.engine, "encode", lambda *parts: asked.append(parts) or original(*parts))
    for text in ("1", "1 2", "1  2 ", "1  2 3"):
        browser.use("Input views", text)
    browser.controls["Input views"]["value"] = "as typed"
    browser.wait(lambda: "/input/2" in browser.scene)
    assert asked == [("bb", [1, 2, 3])]
    browser.idle(0.2)
    assert browser.controls["Input views"]["value"] == "as typed"  # no echo has come


def test_before_there_is_an_object_one_line_says_so(viewer, browse, monkeypatch):
    def fail(*arguments: object) -> None:
        raise ValueError("no such file")

    with monkeypatch.context() as patch:
        patch.setattr(viewer.engine, "encode", fail)
        browser = FakeBrowser(viewer.url, some_eye())
        browser.wait(lambda: "no such file" in browser.text())
    for label, value in (
        ("Sample", True),
        ("Go to", "Overview"),
        ("Go to", "Input view"),
    ):
        browser.use("Keyframes", "Clear")
        browser.wait(lambda: "no object" not in browser.text())
        browser.use(label, value)
        browser.wait(lambda: "**there is no object yet" in browser.text(), label)
    browser.use("Object", "ccc")
    browser.wait(lambda: browser.background is not None)
    browser.close()


def test_a_picture_that_cannot_be_made_is_not_tried_for_ever(viewer, browse, monkeypatch):
    browser, tried = browse(), []
    browser.wait(lambda: len(browser.background) == HEIGHT)

    def fail(*arguments: object) -> None:
        tried.append(1)
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(viewer.engine, "preview", fail)
        browser.look(some_eye(1.7))
        browser.wait(lambda: "out of memory" in browser.text() and len(tried) == 2)
        browser.idle(2 * REST_S)
        assert len(tried) == 2  # while the camera moved, and at rest
    rest_at(viewer, browser, some_eye(1.8))


def test_a_very_narrow_window_has_pictures_too(viewer, browse):
    browser = browse()
    browser.look(some_eye(1.1, aspect=0.005))
    browser.wait(lambda: browser.background.shape == (HEIGHT, 1, 3))


def test_another_object_ends_the_sample_of_the_last_one(viewer, browse):
    browser = browse()
    browser.use("Steps", 5000)
    browser.use("Sample")
    browser.wait(lambda: re.search(r"Step \d+ of 5000", browser.text()))
    browser.use("Object", "ccc")
    browser.wait(lambda: "Cancelled" in browser.text())
    browser.wait(lambda: browser.controls["Sample"]["visible"])
    assert "/sample/1" not in browser.scene


def test_every_view_is_encoded_once(viewer, browse, monkeypatch):
    encoded = []
    original = viewer.engine.model.encode
    monkeypatch.setattr(viewer.engine.model, "encode", lambda views: encoded.append(1) or original(views))
    viewer.engine._encoded.cache_clear()
    for _ in range(2):
        browser = browse()
        browser.use("Input views", "0 1 2")
        browser.wait(lambda now=browser: "/input/2" in now.scene)
    assert len(encoded) == 3


def test_a_sample_is_what_the_model_draws_from_there(viewer, browse):
    browser, eye = browse(), some_eye(0.1, aspect=1.6)
    rest_at(viewer, browser, eye)
    browser.use("Seed", 7)
    browser.use("Steps", 4)
    browser.use("Sample")
    browser.wait(lambda: "Preview, sample (4 steps" in browser.text(), "the sample")
    node = browser.wait(lambda: browser.scene.get("/sample/1"), "the sample in the scene")
    browser.wait(lambda: browser.controls["Sample"]["visible"])
    assert not browser.controls["Cancel"]["visible"]
    engine = viewer.engine
    encoded = engine.encode("bb", [0])
    options = engine.config.sample.model_copy(update={"steps": 4})
    with torch.no_grad():
        expected = engine.model.sample(
            encoded.source, eye.square(encoded.radius), torch.tensor([[7]]), options
        ).images[0, 0]
    np.testing.assert_allclose(picture_of(node, browser), to_uint8(expected).numpy().astype(int), atol=1)


def picture_of(node: dict, browser: FakeBrowser) -> np.ndarray:
    """What a frustum shows."""
    return browser.decoded(node["props"]["_image_data"]).astype(int)[..., :3]


def test_pictures_go_on_while_a_sample_is_drawn_and_it_can_be_cancelled(viewer, browse):
    browser = browse()
    browser.use("Steps", 5000)
    browser.use("Sample")
    browser.wait(lambda: re.search(r"Step \d+ of 5000", browser.text()))
    for step in range(3):
        before = browser.num_backgrounds
        browser.look(some_eye(0.3 + step))
        browser.wait(lambda before=before: browser.num_backgrounds > before, "a picture during the sample")
    other = browse()  # is served, too
    assert len(other.background) in (HEIGHT, HEIGHT // 2)
    browser.use("Cancel")
    browser.wait(lambda: "Cancelled" in browser.text())
    browser.wait(lambda: browser.controls["Sample"]["visible"])
    assert "/sample/1" not in browser.scene


def test_what_goes_wrong_is_said_in_one_line_and_the_viewer_lives(viewer, browse, monkeypatch):
    browser = browse()

    def fail(*arguments) -> None:
        raise RuntimeError("out of luck\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(viewer.engine, "sample", fail)
        browser.use("Sample")
        browser.wait(lambda: "**RuntimeError: out of luck**" in browser.text())
    browser.use("Guidance", 2.0)
    browser.wait(lambda: browser.controls["Sample"]["visible"])
    browser.use("Keyframes", "Clear")  # whatever the user does next takes the line away
    browser.wait(lambda: "**" not in browser.text())
    with monkeypatch.context() as patch:
        patch.setattr(viewer.engine.config.sample.__class__, "model_validate", fail)
        browser.use("Sample")
        browser.wait(lambda: "**RuntimeError: out of luck**" in browser.text())
    rest_at(viewer, browser, some_eye(2.9))
    browser.use("Sample")
    browser.wait(lambda: "/sample/1" in browser.scene)
    browser.wait(lambda: "**" not in browser.text())


def test_a_path_is_edited_played_and_saved(viewer, browse, command):
    browser, folder = browse(), Path(command[command.index("--output") + 1])
    browser.use("Save path")
    browser.wait(lambda: "no keyframes yet" in browser.text())
    eyes = [some_eye(0.3), some_eye(1.0, elevation=0.8), some_eye(1.9)]
    for number, eye in enumerate(eyes):
        rest_at(viewer, browser, eye)
        browser.use("Add keyframe")
        browser.wait(lambda number=number: f"/path/keyframe {number}" in browser.scene)
    rest_at(viewer, browser, some_eye(1.9, aspect=1.5))  # a window of another shape is no other keyframe
    browser.use("Add keyframe")
    browser.wait(lambda: "move the camera first" in browser.text())
    browser.use("Views", 5)
    browser.use("Name", "tour")
    browser.use("Save path")
    browser.wait(lambda: "--trajectory" in browser.text())
    words = shlex.split(re.search(r"```\n(.*?)\n```", browser.text(), re.DOTALL)[1].replace("\\\n", ""))
    assert words[:2] == ["python", "sample_views.py"]
    said = make_parser().parse_args(words[2:])
    assert (said.transfer, said.trajectory) == (command[0], str(folder / "tour.json"))
    assert (said.object, said.cond_views, said.split) == (["bb"], ["0"], "test")
    saved = read_path(folder / "tour.json")
    assert (saved.num, saved.loop) == (5, False)
    torch.testing.assert_close(saved.cam_to_world, torch.stack([eye.cam_to_world for eye in eyes]))
    torch.testing.assert_close(saved.intrinsics, pinhole().expand(3, 3, 3))
    browser.use("Save path")
    browser.wait(lambda: "exists already" in browser.text())
    browser.use("Replace", True)
    browser.use("Loop", True)
    browser.use("Save path")
    until(lambda: read_path(folder / "tour.json").loop)
    for name in ("../tour", "", ".tour", "a/b"):
        browser.use("Name", name)
        browser.use("Save path")
        browser.wait(lambda name=name: f"'{name}' is no name" in browser.text())
    browser.use("Keyframes", "Delete last")
    browser.wait(lambda: "/path/keyframe 2" not in browser.scene)
    browser.use("Keyframes", "Clear")
    browser.wait(lambda: "/path/keyframe 0" not in browser.scene)
    assert sorted(path.name for path in folder.iterdir()) == ["tour.json"]


def test_playing_moves_the_camera_along_the_path_and_gives_it_back(viewer, browse):
    browser = browse()
    eyes = [some_eye(0.3), some_eye(1.3)]
    for number, eye in enumerate(eyes):
        rest_at(viewer, browser, eye)
        browser.use("Add keyframe")
        browser.wait(lambda number=number: f"/path/keyframe {number}" in browser.scene)
    browser.use("Views", 3)
    browser.use("Views per second", 2.0)  # a busy machine skips views that are due
    home = some_eye(2.8)
    rest_at(viewer, browser, home)
    browser.use("Play")
    places = []
    for eye in (some_eye(0.3), some_eye(0.8), some_eye(1.3), home):
        browser.wait(lambda eye=eye: at(browser, eye), f"the camera at {eye.position}")
        browser.look(eye)  # as a browser does that was moved
        places.append(eye)
    browser.wait(lambda: browser.controls["Play"]["visible"])
    assert not browser.controls["Stop"]["visible"]


def test_stopping_gives_the_camera_back_even_while_a_picture_of_the_path_is_made(viewer, browse, monkeypatch):
    browser, home = browse(), some_eye(2.8)
    for eye in (some_eye(0.3), some_eye(1.3), home):
        rest_at(viewer, browser, eye)
        if eye is not home:
            known = sum("/path/keyframe" in name for name in browser.scene)
            browser.use("Add keyframe")
            browser.wait(lambda known=known: f"/path/keyframe {known}" in browser.scene)
    original, begun, stopped = viewer.engine.preview, threading.Event(), threading.Event()

    def slow(*arguments):
        begun.set()
        stopped.wait(20)
        return original(*arguments)

    monkeypatch.setattr(viewer.engine, "preview", slow)
    browser.use("Play")
    browser.wait(lambda: browser.controls["Stop"]["visible"] and begun.is_set())
    browser.use("Stop")
    browser.wait(lambda: browser.controls["Play"]["visible"] and not browser.controls["Stop"]["visible"])
    stopped.set()
    browser.idle(0.5)
    assert not at(browser, some_eye(0.3))
    assert [near(window.session.eye, home) for window in viewer.windows.values()] == [True]


@pytest.mark.parametrize(
    ("control", "value", "said"),
    [
        ("Views per second", 0.0, "Views per second is 0.0; give a number from 0.1 to 60"),
        ("Views per second", float("nan"), "Views per second is nan"),
        ("Views", 0, "Views is 0; give a number from 1 to 10000"),
        ("Views", 10**9, "Views is 1000000000"),
    ],
)
def test_numbers_beyond_the_limits_of_the_controls_are_refused(viewer, browse, control, value, said):
    """The limits of the browser are its own: another program can send anything."""
    browser = browse()
    browser.use("Loop", True)
    browser.use("Add keyframe")
    browser.wait(lambda: "/path/keyframe 0" in browser.scene)
    browser.use(control, value)
    browser.use("Play")
    browser.wait(lambda: said in browser.text(), "a line that says so")
    rest_at(viewer, browser, some_eye(2.3))  # the viewer lives
    assert browser.controls["Play"]["visible"]


def at(browser: FakeBrowser, eye: BrowserCamera) -> bool:
    place = browser.camera.get("SetCameraPositionMessage")
    return place is not None and np.abs(np.array(place) - np.array(eye.position)).max() < 1e-4


def test_ending_the_viewer_ends_a_sample_that_is_under_way(command):
    before = threading.active_count()
    viewer = view.open_viewer(view.view_request(view.make_parser().parse_args(command)))
    browser = FakeBrowser(viewer.url, some_eye())
    browser.wait(lambda: browser.background is not None)
    browser.use("Steps", 9000)
    browser.use("Sample")
    browser.wait(lambda: re.search(r"Step \d+ of 9000", browser.text()))
    began = time.monotonic()
    viewer.stop()
    browser.close()
    until(lambda: threading.active_count() <= before)
    assert time.monotonic() - began < 10


def test_closed_windows_leave_nothing_behind(viewer, browse):
    warm = [browse() for _ in range(2)]
    until(lambda: len(viewer.windows) == 2)
    threads = {thread for thread in threading.enumerate() if "ThreadPool" not in thread.name}
    for _ in range(4):
        browser = browse()
        browser.use("Steps", 9000)
        browser.use("Sample")
        browser.wait(lambda now=browser: re.search(r"Step \d+ of 9000", now.text()))
        browser.close()
        until(lambda: len(viewer.windows) == 2)
    rest_at(viewer, warm[0], some_eye(0.55))
    now = {thread for thread in threading.enumerate() if "ThreadPool" not in thread.name}
    assert now <= threads
    assert len(viewer._worker._clients) == 2


def run_main(arguments: list[str]) -> int:
    try:
        return view.main(arguments)
    except SystemExit as error:
        return error.code


def test_a_port_that_is_taken_is_one_line(command, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run_main([command[0], "--port", port]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"view: --port {port}: cannot be used at 127.0.0.1")


ERRORS = {
    "--port 70000": "--port 70000",
    "--port x": "--port",
    "--size 3": "--size 3",
    "--host nowhere.invalid": "--host nowhere.invalid",
    "--object dd": "no object 'dd'",
    "--object bb --n 1": "only one",
    "--cond-views 9": "view 9",
    "--data nowhere": "no such folder",
    "--camera pose.txt": "--image",
    "--image missing.png": "missing.png",
    "--device tpu": "device",
}


@pytest.mark.parametrize("flags", ERRORS)
def test_bad_input_is_one_line(command, capsys, flags: str):
    assert run_main([*command, *flags.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ERRORS[flags] in line


def test_without_viser_one_line_says_what_to_install(command, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "viser", None)
    assert run_main(command) == 2
    assert capsys.readouterr().err.splitlines() == [
        "view: viser is not installed; pip install -r requirements-viewer.txt"
    ]


SIGNALS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@SIGNALS
def test_a_signal_ends_it_cleanly(command, capsys, monkeypatch, number: int, code: int):
    before, handler = threading.active_count(), signal.getsignal(number)
    original, timers = view.open_viewer, []

    def open_viewer(arguments):
        viewer = original(arguments)
        timers.append(threading.Timer(0.3, lambda: signal.raise_signal(number)))
        timers[-1].start()
        stop = viewer.stop
        monkeypatch.setattr(viewer, "stop", lambda: (restored.append(signal.getsignal(number)), stop()))
        return viewer

    restored: list = []
    monkeypatch.setattr(view, "open_viewer", open_viewer)
    assert view.main(command) == code
    timers[-1].join()
    captured = capsys.readouterr()
    assert captured.err == ""
    (line,) = captured.out.splitlines()
    assert line.startswith("http://127.0.0.1:")
    assert restored == [handler]  # a second signal ends even what hangs
    assert signal.getsignal(number) is handler
    until(lambda: threading.active_count() <= before)


@SIGNALS
def test_a_signal_ends_the_loading_of_the_model(command, capsys, monkeypatch, number: int, code: int):
    handler = signal.getsignal(number)

    def load(arguments) -> None:
        signal.raise_signal(number)
        time.sleep(0.1)
        pytest.fail("went on")

    monkeypatch.setattr(view, "open_engine", load)
    assert view.main(command) == code
    assert capsys.readouterr() == ("", "")
    assert signal.getsignal(number) is handler


def test_the_rate_of_previews_is_measured_without_a_window(command, capsys):
    assert view.main([*command, "--measure"]) == 0
    out = capsys.readouterr().out
    assert f"{HEIGHT // 2} x {HEIGHT // 2}" in out
    assert "frames/s" in out
