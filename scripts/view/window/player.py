"""Play a camera path in the viewer."""

from collections.abc import Callable
from dataclasses import dataclass

from scripts.view.browser_camera import BrowserCamera


@dataclass(frozen=True)
class Player:
    """A path that is being shown: its views, from a time of `time.monotonic` on."""

    eyes: list[BrowserCamera]
    fps: float
    loop: bool
    began: float
    end: Callable[[], None]  # called when all were shown

    def at(self, now: float) -> tuple[BrowserCamera | None, float]:
        """The view of a time and when the next one is due; None: the path is over."""
        number = int((now - self.began) * self.fps)
        if number >= len(self.eyes) and not self.loop:
            return None, now
        return self.eyes[number % len(self.eyes)], self.began + (number + 1) / self.fps
