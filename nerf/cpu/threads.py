"""Run work on as many threads as torch uses on the CPU, each single-threaded in torch.

torch parallelises single operations, which only pays for large ones. Blocks of rays have small operands, to
stay in the caches, so the blocks are parallelised instead.
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
    """Yield the results of `function` for the items, in order.

    Gradient, autocast and inference modes are per thread: `function` must set what it needs.
    """
    num_threads = torch.get_num_threads()
    return map(function, items) if num_threads == 1 else _pool(num_threads).map(function, items)


class OrderedSection:
    """A section that parallel tasks enter in the order of their numbers, from 0."""

    def __init__(self) -> None:
        self._next = 0
        self._changed = threading.Condition()

    @contextmanager
    def number(self, number: int) -> Iterator[Callable[[], None]]:
        """Context of a task: yields a function that waits for its turn, and passes the turn on at exit."""

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
    # The threads' setting is also the default of later ones.
    torch.set_num_threads(num_threads)
    return pool


# Threads do not survive a fork; a child process starts new ones.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _keep_to_one_core() -> None:
    torch.get_num_threads()  # a thread adopts the global setting at the first query
    torch.set_num_threads(1)
