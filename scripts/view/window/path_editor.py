"""Edit, play and save the camera path of a window: a smooth path through keyframes."""

import shlex
import time
from dataclasses import replace
from pathlib import Path

import torch

from data.cameras.keyframes import CameraPath
from data.cameras.path_files import write_path
from data.cameras.pinhole import Cameras, cameras_from_poses
from scripts.view.browser_camera import BrowserCamera, browser_camera_at
from scripts.view.window.panel import CLEAR, MOST_VIEWS, SPEEDS
from scripts.view.window.player import Player
from scripts.view.window.session import Session


class CameraPathEditor:
    """The keyframes of a session. Path files are written to `folder`; `command` are flags of sample_views.py
    for the model and the data."""

    def __init__(self, session: Session, folder: Path, command: list[str]):
        self._session, self._folder, self._command = session, folder, command
        self._keyframes: list[BrowserCamera] = []
        self._home: BrowserCamera | None = None
        path = session.panel.path
        session.on(path.add.on_click, lambda _: self.add())
        session.on(path.change.on_click, lambda which: self.remove(everything=which == CLEAR))
        for control in (path.num, path.loop):
            session.on(control.on_update, lambda _: self._draw())
        session.on(path.play.on_click, lambda _: self.play())
        session.on(path.stop.on_click, lambda _: self.stop())
        session.on(path.save.on_click, lambda _: self.save())

    def add(self) -> None:
        """Append the current camera to the keyframes. Raises ValueError if it has not moved."""
        eye = replace(self._session.eye, aspect=1.0)  # a keyframe is the square in the middle
        if self._keyframes[-1:] == [eye]:
            raise ValueError("this is the last keyframe already; move the camera first")
        self._path([*self._keyframes, eye]).cameras(1)  # raises if there is no path
        self._keyframes.append(eye)
        self._draw()

    def remove(self, *, everything: bool) -> None:
        """Delete the last keyframe, or all."""
        del self._keyframes[0 if everything else -1 :]
        self._draw()

    def path(self) -> CameraPath:
        """The path through the keyframes. Raises ValueError if there are none, or Views is out of range."""
        if not self._keyframes:
            raise ValueError("the path has no keyframes yet; add one")
        return self._path(self._keyframes)

    def _path(self, keyframes: list[BrowserCamera]) -> CameraPath:
        controls, radius = self._session.panel.path, 1.0
        _require_between("Views", controls.num.value, 1, MOST_VIEWS)  # browsers may ignore the limits
        squares = [eye.square(radius)[0, 0] for eye in keyframes]
        poses, intrinsics = (
            torch.stack([getattr(camera, name) for camera in squares])
            for name in ("cam_to_world", "intrinsics")
        )
        return CameraPath(poses, intrinsics, controls.num.value, controls.loop.value)

    def play(self) -> None:
        """Play the path as previews; the camera returns at the end."""
        controls, session = self._session.panel.path, self._session
        _require_between("Views per second", controls.fps.value, *SPEEDS)
        cameras = self.path().cameras()
        aspect = session.eye.aspect
        eyes = [
            browser_camera_at(camera.cam_to_world, camera.intrinsics, aspect=aspect)
            for camera in _each(cameras)
        ]
        with session.worker.changed:
            if session.player is None:
                self._home = session.eye
            session.player = Player(
                eyes, controls.fps.value, controls.loop.value, time.monotonic(), self.stop
            )
        self._show_buttons(playing=True)

    def stop(self) -> None:
        """Stop playing and return the camera to where it was."""
        session = self._session
        with session.worker.changed:
            playing, session.player = session.player, None
        if playing is not None:
            session.stage.move_eye(self._home)
        self._show_buttons(playing=False)

    def save(self) -> None:
        """Write the path. Raises ValueError if the name is invalid or taken."""
        controls = self._session.panel.path
        name = controls.name.value.strip().removesuffix(".json")
        if not name or name.startswith(".") or Path(name).name != name or "\\" in name:
            raise ValueError(f"'{name}' is no name for a file; give one without folders")
        file = self._folder / f"{name}.json"
        path = self.path()
        path.cameras(1)  # raises if there is no path
        write_path(file, path, replace=controls.replace.value)
        controls.saved.content = f"Saved {file}. To sample its views:\n```\n{self._command_for(file)}\n```"

    def _command_for(self, file: Path) -> str:
        """The command line that samples the views of a path file, for the current object and input views."""
        chosen, flags = self._session.chosen, [*self._command]
        if chosen is not None:
            flags += self._session.engine.subjects.flags(chosen.name, chosen.views)
        lines = "python sample_views.py"
        for word in [*flags, "--trajectory", str(file)]:
            lines += (" \\\n  " if word.startswith("--") else " ") + shlex.quote(word)
        return lines

    def _draw(self) -> None:
        """Show keyframes and path in the scene."""
        if not self._keyframes:
            self._session.stage.show_path(None, None)
            return
        path = self.path()
        keyframes = cameras_from_poses(path.cam_to_world, path.intrinsics, object_radius=1.0)
        self._session.stage.show_path(keyframes, path.cameras(object_radius=1.0))

    def _show_buttons(self, *, playing: bool) -> None:
        controls = self._session.panel.path
        controls.play.visible, controls.stop.visible = not playing, playing


def _require_between(label: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{label} is {value}; give a number from {low} to {high}")


def _each(cameras: Cameras) -> list[Cameras]:
    """Cameras [n] one by one."""
    return [cameras[number] for number in range(len(cameras.near))]
