"""Work shared out among as many threads as torch uses on the CPU, each of which keeps to one core.

torch itself shares out single operations, which only pays for large ones. Blocks of rays keep their operands
small, so that they stay in the caches; what is shared out is the blocks.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results of `function` for the items, in their order, whatever thread found them.

    Gradients, autocast and inference mode are a thread's own: `function` switches on or off what it needs.
    """
    num_threads = torch.get_num_threads()
    return map(function, items) if num_threads == 1 else _pool(num_threads).map(function, items)


class OrderedSection:
    """Lets parallel pieces of work take turns in the order of their numbers, from 0, where it matters."""

    def __init__(self) -> None:
        self._next = 0
        self._changed = threading.Condition()

    @contextmanager
    def number(self, number: int) -> Iterator[Callable[[], None]]:
        """Context of a piece of work; it gets a function that waits for its turn, which the end passes on."""

        def wait() -> None:
            with self._changed:
                self._changed.wait_for(lambda: self._next == number)

        try:
            yield wait
        finally:
            wait()
            with self._changed:
                self._next += 1
                self._changed.notify_all()


@lru_cache(maxsize=1)
def _pool(num_threads: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(num_threads, "blocks", initializer=_keep_to_one_core)
    started = threading.Barrier(num_threads + 1)
    for _ in range(num_threads):
        pool.submit(started.wait)
    started.wait()
    # What the threads have set is also what later ones begin with.
    torch.set_num_threads(num_threads)
    return pool


# Threads do not survive a fork; a child process begins with new ones.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _keep_to_one_core() -> None:
    torch.get_num_threads()  # a thread takes over the number of all others when it is first asked
    torch.set_num_threads(1)
