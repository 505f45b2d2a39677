"""The thread that computes for all windows in turn, so that none waits for an outdated image."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

PATIENCE_S = 10.0  # seconds to wait for the end of a turn
Turn = Callable[[], None]  # a unit of work


class Client(Protocol):
    """A window that needs work done. The worker calls it from its own thread."""

    def job(self, *, quick: bool) -> Turn | None:
        """Pop the next one-off job: a `quick` one, or a long one that calls `Worker.breathe` regularly."""

    def frame(self, now: float, *, moving: bool) -> Turn | float | None:
        """Work on the image of the latest camera, the time (`time.monotonic`) at which to ask again, or None
        if there is nothing to do.

        The image is coarse for a `moving` camera, otherwise fine.
        """

    def failed(self, error: Exception) -> None:
        """Show an error of a turn to the user."""


Question = Callable[[Client, float], Turn | float | None]  # at a time
JOBS: tuple[Question, ...] = (
    lambda client, now: client.job(quick=True),
    lambda client, now: client.job(quick=False),
)
PICTURES: tuple[Question, ...] = (
    lambda client, now: client.frame(now, moving=True),
    lambda client, now: client.frame(now, moving=False),
)


class Worker:
    """Serves clients in turn: one-off jobs first, then images.

    Between the steps of long jobs, `breathe` does the quick jobs and the images of moving cameras.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()  # held while the state of clients is changed
        self._clients: list[Client] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="viewer", daemon=True)

    def start(self) -> None:
        """Start serving."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current turn, or abandon it after `PATIENCE_S`."""
        with self.changed:
            self._ended = True
            self._clients.clear()
            self.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=PATIENCE_S)

    def add(self, client: Client) -> None:
        """Start serving a client."""
        with self.changed:
            self._clients.append(client)
            self.changed.notify_all()

    def remove(self, client: Client) -> None:
        """Stop serving a client."""
        with self.changed:
            if client in self._clients:
                self._clients.remove(client)

    def breathe(self) -> None:
        """Do the quick work of each client; long jobs call this regularly."""
        with self.changed:
            clients = list(self._clients)
        for client in clients:
            with self.changed:
                now = time.monotonic()
                turn = _ask(client, JOBS[0], now) or _ask(client, PICTURES[0], now)
            if callable(turn):
                self._take(client, turn)

    def _run(self) -> None:
        while True:
            with self.changed:
                found = None
                while not self._ended and (found := self._next()) is None:
                    self.changed.wait(self._pause())
                if self._ended:
                    return
            self._take(*found)

    def _next(self) -> tuple[Client, Turn] | None:
        """The next turn; its client goes to the end of the queue."""
        now = time.monotonic()
        for question in (*JOBS, *PICTURES):
            for client in self._clients:
                turn = _ask(client, question, now)
                if callable(turn):
                    self._clients.remove(client)
                    self._clients.append(client)
                    return client, turn
        return None

    def _pause(self) -> float | None:
        """Seconds until a client will have work, or None to wait for a change."""
        now = time.monotonic()
        answers = [_ask(client, question, now) for client in self._clients for question in PICTURES]
        times = [
            answer - now if isinstance(answer, float) else 0.0 for answer in answers if answer is not None
        ]
        return max(0.0, min(times)) if times else None

    def _take(self, client: Client, turn: Turn) -> None:
        try:
            turn()
        except Exception as error:  # shown in the window; the others continue
            client.failed(error)


def _ask(client: Client, question: Question, now: float) -> Turn | float | None:
    """A client's answer; None after an error, so that it is not asked again before something changes."""
    try:
        return question(client, now)
    except Exception as error:  # as in `_take`
        client.failed(error)
        return None
