"""The one thread that computes for all windows, each in its turn, so that none waits for a stale picture."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

PATIENCE_S = 10.0  # seconds to wait for the end of a turn
Turn = Callable[[], None]  # a piece of work


class Client(Protocol):
    """A window that has work done. The worker calls it from its own thread."""

    def job(self, *, quick: bool) -> Turn | None:
        """Takes the next of what was asked for once: such as is done `quick`, or such as calls
        `Worker.breathe` now and then."""

    def frame(self, now: float, *, moving: bool) -> Turn | float | None:
        """Work on the picture of the newest camera, or the time of `time.monotonic` at which to ask again.

        It is the picture that a `moving` camera needs, or a better one; None: there is nothing to do.
        """

    def failed(self, error: Exception) -> None:
        """Tell the user that a turn went wrong."""


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
    """Serves clients in turn: what they asked for once first, then pictures.

    Between the steps of long work, `breathe` has it do what is quick for all, and pictures of moving cameras.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()  # held while what clients answer is changed
        self._clients: list[Client] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="viewer", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the turn that is under way, and no more; one that takes too long is left behind."""
        with self.changed:
            self._ended = True
            self._clients.clear()
            self.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=PATIENCE_S)

    def add(self, client: Client) -> None:
        """Serve another client from now on."""
        with self.changed:
            self._clients.append(client)
            self.changed.notify_all()

    def remove(self, client: Client) -> None:
        """Serve a client no more."""
        with self.changed:
            if client in self._clients:
                self._clients.remove(client)

    def breathe(self) -> None:
        """Do what is quick for each client; long work calls this now and then."""
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
        """Seconds until a client will have work; None: not before something changes."""
        now = time.monotonic()
        answers = [_ask(client, question, now) for client in self._clients for question in PICTURES]
        times = [
            answer - now if isinstance(answer, float) else 0.0 for answer in answers if answer is not None
        ]
        return max(0.0, min(times)) if times else None

    def _take(self, client: Client, turn: Turn) -> None:
        try:
            turn()
        except Exception as error:  # the window says what went wrong, and the others go on
            client.failed(error)


def _ask(client: Client, question: Question, now: float) -> Turn | float | None:
    """A client's answer; one that has none but an error has nothing to do until something changes."""
    try:
        return question(client, now)
    except Exception as error:  # as in turns
        client.failed(error)
        return None
