"""The state of one window, and the images that are sent to it."""

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

REST_S = 0.2  # seconds after its last move at which a camera counts as still
WIDEST = 4.0  # largest aspect ratio of an image
TYPED_S = 0.5  # seconds after the last key press at which a typed text is complete
RATE_FRAMES = 12  # latest images of a moving camera over which the frame rate is measured
PATIENCE_S = 1.0  # seconds to wait for a window to follow its camera
NO_OBJECT = "there is no object yet; wait, or choose another"


@dataclass(frozen=True)
class Wanted:
    """Everything that determines a window's background."""

    encoded: Encoded
    eye: BrowserCamera
    kind: str
    channel: int


@dataclass(frozen=True)
class Look:
    """The object and input views that the user chose."""

    name: str
    views: list[int]
    begin: bool  # start from an overview
    due: float  # when to encode it, by `time.monotonic`


class Session:
    """The state of one window; `heights` are those of its images in pixels, while it moves and at rest.

    User events arrive in viser's threads, which change the state under the worker's lock and wake the worker;
    the worker's thread computes.
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
        self.chosen: Look | None = None  # the latest, which may not be encoded yet
        self.closed = False
        self.player: Player | None = None  # moves the camera while there is one
        self.eye = browser_camera_of(client.camera)
        self._led_at: float | None = None  # when the player moved the camera, until the window confirms it
        self._acting = threading.Lock()  # held while a user event is handled
        self._heights = heights
        self._moved_at = time.monotonic()
        self._sent: tuple[Wanted, bool] | None = None  # the last image sent or tried, and whether it was fine
        self._must_encode = False  # whether `chosen` is to be encoded
        self._jobs: deque[Turn] = deque()
        self._seconds: deque[float] = deque(maxlen=RATE_FRAMES)  # for each of the latest coarse images

    def ask(self, job: Turn) -> None:
        """Queue a long job, which must call `Worker.breathe` regularly."""
        with self.worker.changed:
            self._jobs.append(job)
            self.worker.changed.notify_all()

    def look(self, name: str, views: list[int], *, begin: bool = False, typed: bool = False) -> None:
        """Encode an object from some of its views, instead of any pending one, and show it.

        With `begin`, start from an overview. If the views are `typed`, wait until the text is complete, and
        do not change the text field.
        """
        with self.worker.changed:
            begin = begin or (self._must_encode and self.chosen.begin)
            self.chosen = Look(name, views, begin, time.monotonic() + (TYPED_S if typed else 0.0))
            self._must_encode = True
            self.worker.changed.notify_all()
        if not typed:
            self.panel.view.views.value = " ".join(map(str, views))

    def moved(self, camera: "CameraHandle") -> None:
        """Handle a move of the window's camera."""
        with self.worker.changed:
            if self.player is None and (eye := browser_camera_of(camera)) != self.eye:
                self.eye, self._moved_at = eye, time.monotonic()
            self._led_at = None
            self.worker.changed.notify_all()

    def wake(self) -> None:
        """Notify the worker that something other than the camera has changed."""
        with self.worker.changed:
            self.worker.changed.notify_all()

    def close(self) -> None:
        """Stop computing for the window, which is closed."""
        self.worker.remove(self)
        with self.worker.changed:
            self.closed, self.player, self._must_encode = True, None, False
            self._jobs.clear()

    def on(self, register: Callable, act: Callable[[Any], None]) -> None:
        """When the user changes a control, call `act` with its new value, and show errors to the user.

        `register` is viser's method for that control.
        """

        def callback(event: "GuiEvent") -> None:
            if event.client_id is None or self.closed:  # a change made by this program
                return
            try:
                with self._acting:
                    self.say()
                    act(event.target.value)
            except Exception as error:  # whatever it is, the window stays open
                self.failed(error)
            else:
                self.wake()

        register(callback)

    def say(self, text: str = "") -> None:
        """Show a line at the top of the controls, or hide it if empty."""
        if not self.closed:
            self.panel.status.content = text
            self.panel.status.visible = bool(text)

    def job(self, *, quick: bool) -> Turn | None:
        """Encoding of the chosen object (quick), or the first of the queued jobs."""
        if not quick:
            return self._jobs.popleft() if self._jobs else None
        if not self._must_encode or time.monotonic() < self.chosen.due:
            return None
        self._must_encode, chosen = False, self.chosen
        return lambda: self._encode(chosen)

    def frame(self, now: float, *, moving: bool) -> Turn | float | None:
        """The image of the latest camera, first coarse, then fine once the camera is still."""
        if self._must_encode:  # another object is about to be shown
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
        """Show an error to the user."""
        text = next(iter(str(error).splitlines()), "") or type(error).__name__
        self.say(f"**{text if isinstance(error, ValueError) else f'{type(error).__name__}: {text}'}**")

    def _wanted(self) -> Wanted:
        view = self.panel.view
        channel = view.channel.value if view.kind.value == pictures.LATENT else 0
        return Wanted(self.encoded, self.eye, view.kind.value, channel)

    def _play(self, now: float) -> Turn | float | None:
        if self._led_at is not None and now < self._led_at + PATIENCE_S:
            return self._led_at + PATIENCE_S  # sending more to a slow window would stall it
        player = self.player
        eye, due = player.at(now)
        if eye is None:
            return player.end
        if self._sent is not None and self._sent[0].eye == eye:
            return due
        wanted = replace(self._wanted(), eye=eye)
        return lambda: self._show(wanted, self._heights[0], player)

    def _show(self, wanted: Wanted, height: int, player: "Player | None" = None) -> None:
        """Send an image; a player also moves the window's camera."""
        began, rests = time.monotonic(), height == self._heights[1]
        size = (height, max(1, round(height * min(wanted.eye.aspect, WIDEST))))
        try:
            if not self._send(wanted, size, player):
                return
        finally:  # after an error, do not try again until something changes
            with self.worker.changed:
                self._sent = (wanted, rests)
        if rests:
            self._show_rate(size)
        else:
            self._seconds.append(time.monotonic() - began)

    def _send(self, wanted: Wanted, size: tuple[int, int], player: "Player | None") -> bool:
        """Send an image; returns False if its player was stopped in the meantime."""
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
        """Move the window's camera, unless the player was stopped in the meantime."""
        with self.worker.changed:
            if self.player is not player:
                return False
            self._led_at, self.eye = time.monotonic(), eye
            self.stage.move_eye(eye)
            return True

    def _show_rate(self, size: tuple[int, int]) -> None:
        """Show the frame rate of a moving camera."""
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
        """Show the object and its first input view from afar. Raises ValueError if there is none yet."""
        self.stage.move_eye(overview(self._first_camera()))

    def go_to_input(self) -> None:
        """Move to the camera of the first input view. Raises ValueError if there is none yet."""
        first = self._first_camera()
        self.stage.move_eye(browser_camera_at(first.cam_to_world, first.intrinsics))

    def _first_camera(self) -> Cameras:
        """The camera of the first input view, without batch axes."""
        if self.encoded is None:
            raise ValueError(NO_OBJECT)
        return self.encoded.source.cameras[0, 0]
