"""Play a camera path in the viewer."""

from collections.abc import Callable
from dataclasses import dataclass

from scripts.view.browser_camera import BrowserCamera


@dataclass(frozen=True)
class Player:
    """A path that is being played: its views, starting at a time of `time.monotonic`."""

    eyes: list[BrowserCamera]
    fps: float
    loop: bool
    began: float
    end: Callable[[], None]  # called at the end

    def at(self, now: float) -> tuple[BrowserCamera | None, float]:
        """The view at a time (None after the end) and the time of the next one."""
        number = int((now - self.began) * self.fps)
        if number >= len(self.eyes) and not self.loop:
            return None, now
        return self.eyes[number % len(self.eyes)], self.began + (number + 1) / self.fps
