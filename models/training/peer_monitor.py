"""Notice within seconds when another process of a run dies, instead of at the process group's timeout.

Every process holds a socket to rank 0, on which nothing is sent until the run ends. When a process dies,
however it dies, the operating system closes its socket, which rank 0 notices; rank 0 then ends, which all
others notice.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import torch

PATIENCE_S = 10.0  # for a process to notice by itself, and to say what it knows


class LostRankError(Exception):
    """Work in common failed because another process died."""


class Companions:
    """The processes that train with this one; `group` has all of them and a timeout longer than any run.

    `lost` is called, in a thread, where one of them has died and this process has not ended by itself soon
    after; it must end it.
    """

    def __init__(self, rank: int, world: int, group: Any, lost: Callable[[], None]):
        self._peers = range(1, world) if rank == 0 else range(1)
        self._first, self._group, self._lost = rank == 0, group, lost
        self._gone = threading.Event()
        self._listeners = [
            threading.Thread(target=self._listen, args=(peer,), daemon=True) for peer in self._peers
        ]
        for listener in self._listeners:
            listener.start()

    def gone(self, patience_s: float) -> bool:
        """Whether one of them has died, as far as that becomes known within `patience_s` seconds."""
        return self._gone.wait(patience_s)

    def part(self) -> None:
        """Wait until all have come to their end."""
        if not self._first:
            self._say_goodbye()
        for listener in self._listeners:
            listener.join()
        if self._first:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        for peer in self._peers:
            torch.distributed.send(torch.zeros(1), peer, group=self._group)

    def _listen(self, peer: int) -> None:
        try:
            torch.distributed.recv(torch.zeros(1), peer, group=self._group)
        except RuntimeError:  # the line is dead
            self._gone.set()
            time.sleep(PATIENCE_S)
            self._lost()
