"""One window: what its user looks at, and the pictures that are sent to it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from data.cameras.pinhole import Cameras
from scripts.view import frames as pictures
from scripts.view.backend import Encoded, Engine
from scripts.view.browser_camera import BrowserCamera, browser_camera_at, browser_camera_of
from scripts.view.render_thread import Turn, Worker
from scripts.view.window.panel import Panel
from scripts.view.window.scene3d import Stage, overview

if TYPE_CHECKING:
    from viser import CameraHandle, ClientHandle, GuiEvent

    from scripts.view.window.player import Player

REST_S = 0.2  # seconds after its last move in which a camera comes to rest
WIDEST = 4.0  # width of a picture divided by its height
TYPED_S = 0.5  # seconds after the last letter in which a typed text is complete
RATE_FRAMES = 12  # latest pictures while the camera moved, of which the rate is shown
PATIENCE_S = 1.0  # seconds to wait for a window to follow its camera
NO_OBJECT = "there is no object yet; wait, or choose another"


@dataclass(frozen=True)
class Wanted:
    """All that decides what a window's background looks like."""

    encoded: Encoded
    eye: BrowserCamera
    kind: str
    channel: int


@dataclass(frozen=True)
class Look:
    """What the user chose to look at."""

    name: str
    views: list[int]
    begin: bool  # from an overview
    due: float  # when to encode it, as of `time.monotonic`


class Session:
    """The state of one window; `heights` are those of its pictures in pixels, while it moves and at rest.

    What users do arrives in viser's threads, which change the state under the worker's lock and wake it; the
    worker's thread computes.
    """

    def __init__(
        self,
        client: "ClientHandle",
        panel: Panel,
        engine: Engine,
        worker: Worker,
        heights: tuple[int, int],
    ):
        self.client, self.panel, self.engine, self.worker = client, panel, engine, worker
        self.stage = Stage(client)
        self.encoded: Encoded | None = None
        self.chosen: Look | None = None  # the newest, which may be still to be encoded
        self.closed = False
        self.player: Player | None = None  # moves the camera while there is one
        self.eye = browser_camera_of(client.camera)
        self._led_at: float | None = None  # when the camera was moved for the window, until that follows
        self._acting = threading.Lock()  # held while something that the user did has its effect
        self._heights = heights
        self._moved_at = time.monotonic()
        self._sent: tuple[Wanted, bool] | None = None  # what was tried to show last, and whether as at rest
        self._looks_anew = False  # whether `chosen` is to be encoded
        self._jobs: deque[Turn] = deque()
        self._seconds: deque[float] = deque(maxlen=RATE_FRAMES)  # for each of the latest coarse pictures

    def ask(self, job: Turn) -> None:
        """Have the worker do something long once, after what it was asked before; it lets others in by
        `Worker.breathe`."""
        with self.worker.changed:
            self._jobs.append(job)
            self.worker.changed.notify_all()

    def look(self, name: str, views: list[int], *, begin: bool = False, typed: bool = False) -> None:
        """Have an object encoded from some of its views, instead of what was to be encoded, and look at it.

        `begin`: from an overview. Views that are `typed` are waited for, and their field stays as it is.
        """
        with self.worker.changed:
            begin = begin or (self._looks_anew and self.chosen.begin)
            self.chosen = Look(name, views, begin, time.monotonic() + (TYPED_S if typed else 0.0))
            self._looks_anew = True
            self.worker.changed.notify_all()
        if not typed:
            self.panel.view.views.value = " ".join(map(str, views))

    def moved(self, camera: "CameraHandle") -> None:
        """The window's camera is elsewhere now."""
        with self.worker.changed:
            if self.player is None and (eye := browser_camera_of(camera)) != self.eye:
                self.eye, self._moved_at = eye, time.monotonic()
            self._led_at = None
            self.worker.changed.notify_all()

    def wake(self) -> None:
        """Something else than the camera has changed."""
        with self.worker.changed:
            self.worker.changed.notify_all()

    def close(self) -> None:
        """The window is gone: nothing is computed for it any more."""
        self.worker.remove(self)
        with self.worker.changed:
            self.closed, self.player, self._looks_anew = True, None, False
            self._jobs.clear()

    def on(self, register: Callable, act: Callable[[Any], None]) -> None:
        """When the user changes a control, tell `act` its new value, and the user what went wrong.

        `register` is viser's method for that control.
        """

        def callback(event: "GuiEvent") -> None:
            if event.client_id is None or self.closed:  # a change that this program made
                return
            try:
                with self._acting:
                    self.say()
                    act(event.target.value)
            except Exception as error:  # whatever it is, the window stays
                self.failed(error)
            else:
                self.wake()

        register(callback)

    def say(self, text: str = "") -> None:
        """Show a line at the top of the controls; none hides it."""
        if not self.closed:
            self.panel.status.content = text
            self.panel.status.visible = bool(text)

    def job(self, *, quick: bool) -> Turn | None:
        """The object that was chosen, or what was asked for first."""
        if not quick:
            return self._jobs.popleft() if self._jobs else None
        if not self._looks_anew or time.monotonic() < self.chosen.due:
            return None
        self._looks_anew, chosen = False, self.chosen
        return lambda: self._encode(chosen)

    def frame(self, now: float, *, moving: bool) -> Turn | float | None:
        """The picture of the newest camera, coarse first, and fine once that rests."""
        if self._looks_anew:  # then there will be another object
            return self.chosen.due
        if self.encoded is None:
            return None
        if self.player is not None:
            return self._play(now) if moving else None
        wanted = self._wanted()
        if self._sent == (wanted, True):
            return None
        if moving:
            seen = self._sent is not None and self._sent[0] == wanted
            return None if seen else lambda: self._show(wanted, self._heights[0])
        rested = self._moved_at + REST_S
        return rested if now < rested else lambda: self._show(wanted, self._heights[1])

    def failed(self, error: Exception) -> None:
        """Say what went wrong."""
        text = next(iter(str(error).splitlines()), "") or type(error).__name__
        self.say(f"**{text if isinstance(error, ValueError) else f'{type(error).__name__}: {text}'}**")

    def _wanted(self) -> Wanted:
        view = self.panel.view
        channel = view.channel.value if view.kind.value == pictures.LATENT else 0
        return Wanted(self.encoded, self.eye, view.kind.value, channel)

    def _play(self, now: float) -> Turn | float | None:
        if self._led_at is not None and now < self._led_at + PATIENCE_S:
            return self._led_at + PATIENCE_S  # a slow window would show nothing if it were sent more
        player = self.player
        eye, due = player.at(now)
        if eye is None:
            return player.end
        if self._sent is not None and self._sent[0].eye == eye:
            return due
        wanted = replace(self._wanted(), eye=eye)
        return lambda: self._show(wanted, self._heights[0], player)

    def _show(self, wanted: Wanted, height: int, player: "Player | None" = None) -> None:
        """Send a picture; the window's camera goes with that of a player."""
        began, rests = time.monotonic(), height == self._heights[1]
        size = (height, max(1, round(height * min(wanted.eye.aspect, WIDEST))))
        try:
            if not self._send(wanted, size, player):
                return
        finally:  # what fails is not tried again until something changes
            with self.worker.changed:
                self._sent = (wanted, rests)
        if rests:
            self._tell_rate(size)
        else:
            self._seconds.append(time.monotonic() - began)

    def _send(self, wanted: Wanted, size: tuple[int, int], player: "Player | None") -> bool:
        """False: its player was stopped meanwhile."""
        eye = wanted.eye
        preview = self.engine.preview(wanted.encoded, eye.cameras(wanted.encoded.radius), size)
        picture = pictures.backdrop(pictures.picture(preview, wanted.kind, wanted.channel))
        with self.client.atomic():
            if player is not None and not self._lead(player, eye):
                return False
            self.stage.clear_eye(eye)
            self.client.scene.set_background_image(picture, format="png", depth=pictures.surface(preview))
        self.client.flush()
        ends = (f"{preview.near:.2f}", f"{preview.far:.2f}") if wanted.kind == pictures.DEPTH else ("0", "1")
        self.panel.view.scale.content = pictures.scale(*ends)
        return True

    def _lead(self, player: "Player", eye: BrowserCamera) -> bool:
        """Take the window's camera along, unless the user has it back already."""
        with self.worker.changed:
            if self.player is not player:
                return False
            self._led_at, self.eye = time.monotonic(), eye
            self.stage.move_eye(eye)
            return True

    def _tell_rate(self, size: tuple[int, int]) -> None:
        """Show how fast pictures could follow each other while the camera moves."""
        if self._seconds:
            rate = 1 / median(self._seconds)
            self.panel.view.speed.content = (
                f"{rate:.0f} frames/s while the camera moves, then {size[0]} x {size[1]}"
            )

    def _encode(self, chosen: Look) -> None:
        self.say("Encoding ...")
        encoded = self.engine.encode(chosen.name, chosen.views)
        self.say()
        with self.worker.changed:
            self.encoded = encoded
        self.stage.show_object(encoded.source, encoded.radius)
        if chosen.begin:
            self.overview()

    def overview(self) -> None:
        """Look at the object and its first input view from afar. Raises ValueError before there is one."""
        self.stage.move_eye(overview(self._first_camera()))

    def go_to_input(self) -> None:
        """Look from where the first input view was taken. Raises ValueError before there is one."""
        first = self._first_camera()
        self.stage.move_eye(browser_camera_at(first.cam_to_world, first.intrinsics))

    def _first_camera(self) -> Cameras:
        """The camera of the first input view, without axes."""
        if self.encoded is None:
            raise ValueError(NO_OBJECT)
        return self.encoded.source.cameras[0, 0]
