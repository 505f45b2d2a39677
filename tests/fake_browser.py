"""A browser without a screen: speaks viser's protocol, moves its camera, uses controls, keeps the picture."""

import io
import time
from collections.abc import Callable
from typing import Any

import imageio.v3 as imageio
import msgspec
import numpy as np
import viser
import zstandard
from viser import _messages
from websockets.sync.client import connect

from scripts.view.browser_camera import BrowserCamera

PATIENCE_S = 300.0


class FakeBrowser:
    """Connects to a viewer at `url` and looks from `eye`."""

    def __init__(self, url: str, eye: BrowserCamera):
        self.controls: dict[str, dict[str, Any]] = {}  # label -> uuid, and all that is known of it
        self.scene: dict[str, dict[str, Any]] = {}  # name -> what was last said of the node
        self.background: np.ndarray | None = None
        self.num_backgrounds = 0
        self.camera: dict[str, Any] = {}  # what the server has done to the camera
        protocol = f"viser-v{viser.__version__}"
        self._socket = connect(url.replace("http", "ws"), subprotocols=[protocol], proxy=None, max_size=None)
        self.look(eye)

    def close(self) -> None:
        """As if the tab were closed."""
        self._socket.close()

    def look(self, eye: BrowserCamera) -> None:
        """Move the camera."""
        forward = eye.cam_to_world[:3, 2].tolist()
        ahead = tuple(a + b for a, b in zip(eye.position, forward, strict=True))
        height = 600
        self._send(
            _messages.ViewerCameraMessage(
                wxyz=eye.wxyz,
                position=eye.position,
                fov=eye.fov,
                near=0.01,
                far=1000.0,
                image_height=height,
                image_width=round(height * eye.aspect),
                look_at=ahead,
                up_direction=(0.0, 0.0, 1.0),
            )
        )

    def use(self, label: str, value: Any = True) -> None:
        """Change a control, or press a button; of a group, `value` is the button."""
        self._send(_messages.GuiUpdateMessage(self.controls[label]["uuid"], {"value": value}))

    def wait(self, condition: Callable[[], Any], what: str = "") -> Any:
        """Read messages until a condition holds; returns what it gave."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain for {what or condition}"
            try:
                self._read(self._socket.recv(timeout=min(left, 0.2)))
            except TimeoutError:
                continue
        return found

    def idle(self, seconds: float) -> None:
        """Read messages for a while."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end)

    def text(self) -> str:
        """All markdown that is shown."""
        shown = (one for one in self.controls.values() if one.get("visible", True))
        return "\n".join(str(one["_markdown"]) for one in shown if "_markdown" in one)

    def _send(self, message: _messages.Message) -> None:
        self._socket.send(msgspec.msgpack.encode(message.as_serializable_dict([])))

    def _read(self, raw: bytes) -> None:
        size, packed = (int.from_bytes(raw[at : at + 8], "little") for at in (0, 8))
        content = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(raw[16 : 16 + packed], size))
        buffers, at = [], 16 + packed
        for length in content["binaryBufferLengths"]:
            at += -at % 8
            buffers.append(raw[at : at + length])
            at += length
        for message in content["messages"]:
            self._heed(_filled(message, buffers))

    def decoded(self, data: bytes) -> np.ndarray:
        """The pixels of a PNG."""
        return imageio.imread(io.BytesIO(data), extension=".png")

    def _heed(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "BackgroundImageMessage" and message["rgb_data"] is not None:
            self.background = self.decoded(message["rgb_data"])
            self.num_backgrounds += 1
        elif kind.startswith("SetCamera"):
            self.camera[kind] = next(
                value for key, value in message.items() if key not in ("type", "initial")
            )
        elif kind == "GuiUpdateMessage":
            for control in self.controls.values():
                if control["uuid"] == message["uuid"]:
                    control |= message["updates"]
        elif kind.startswith("Gui") and "props" in message:
            known = message | message["props"]
            self.controls[known.get("label") or f"{kind} {len(self.controls)}"] = known
        elif kind == "RemoveSceneNodeMessage":
            self.scene.pop(message["name"], None)
        elif kind == "SetSceneNodeVisibilityMessage":
            self.scene.setdefault(message["name"], {})["visible"] = message["visible"]
        elif "name" in message and "props" in message:
            self.scene[message["name"]] = message


def _filled(value: Any, buffers: list[bytes]) -> Any:
    """A message with its arrays where they belong."""
    if isinstance(value, dict):
        if "__binary_index" in value:
            return buffers[value["__binary_index"]]
        return {key: _filled(inner, buffers) for key, inner in value.items()}
    return value
