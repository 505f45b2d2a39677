"""A process pool that survives killed or hanging workers."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any


def available_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerKilledError(RuntimeError):
    """A worker died or was killed during a task: a crash in native code, out of memory, timeout."""


def run_each(
    function: Callable[..., Any],
    tasks: Sequence[tuple],
    *,
    workers: int,
    time_limit_s: float | int | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield (task number, function(*task) or the exception that it raised) as the tasks finish.

    With `workers` 0, tasks run sequentially in this process, without protection from crashes and without a
    time limit; otherwise in so many spawned processes, and a task whose process dies yields a
    WorkerKilledError. Function and tasks must be picklable.
    """
    if workers == 0:
        yield from ((number, _attempt(function, task)) for number, task in enumerate(tasks))
        return
    pool: list[_Worker] = []
    pending = iter(enumerate(tasks))
    try:
        for number, task in pending:
            pool.append(_Worker(function))
            pool[-1].give(number, task)
            if len(pool) == min(workers, len(tasks)):
                break
        while busy := [worker for worker in pool if worker.number is not None]:
            for worker in _answering(busy, time_limit_s):
                number, answer = worker.number, worker.answer(time_limit_s)
                following = next(pending, None)
                if following is not None:
                    if not worker.process.is_alive():
                        pool[pool.index(worker)] = worker = _Worker(function)
                    worker.give(*following)
                yield number, answer
    finally:
        for worker in pool:
            worker.end()


class _Worker:
    """One process and the connection to it."""

    def __init__(self, function: Callable[..., Any]):
        # Spawn a fresh interpreter: forking is unsafe if the caller has threads.
        context = get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()  # so that the connection closes when the process dies
        self.number: int | None = None
        self.since = 0.0

    def give(self, number: int, task: tuple) -> None:
        self.number, self.since = number, time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):  # the process is dead, as `answer` will notice
            self.line.send(task)

    def answer(self, time_limit_s: float | int | None) -> Any:
        """The result of the task; call it when the process has answered, died or timed out."""
        self.number = None
        try:
            if self.line.poll():
                return self.line.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return WorkerKilledError(f"its process died ({_cause(self.process.exitcode)})")
        self.end()
        return WorkerKilledError(f"took longer than {time_limit_s:g} seconds")

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.line.close()


def _serve(line: Connection, function: Callable[..., Any]) -> None:
    # Only the parent handles Ctrl-C, and then ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            task = line.recv()
        except EOFError:
            return
        result = _attempt(function, task)
        # Exceptions of third-party modules may not be picklable.
        if isinstance(result, Exception) and type(result).__module__ != "builtins":
            result = RuntimeError(f"{type(result).__name__}: {result}")
        line.send(result)


def _attempt(function: Callable[..., Any], task: tuple) -> Any:
    try:
        return function(*task)
    except Exception as error:
        return error


def _answering(busy: list[_Worker], time_limit_s: float | int | None) -> list[_Worker]:
    """Wait for workers that have answered, died or timed out."""
    now = time.monotonic()
    left = None if time_limit_s is None else max(0.0, min(w.since for w in busy) + time_limit_s - now)
    ready = wait([worker.line for worker in busy], left)
    if time_limit_s is None:
        return [worker for worker in busy if worker.line in ready]
    late = time.monotonic() - time_limit_s
    return [worker for worker in busy if worker.line in ready or worker.since <= late]


def _cause(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    names = {-signal.SIGSEGV: "a crash in native code", -signal.SIGKILL: "killed, perhaps out of memory"}
    return names.get(exit_code, f"signal {-exit_code}")
