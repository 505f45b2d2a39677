"""Work shared among processes, of which any may be killed or hang without ending the others' work."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any


def available_cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerKilledError(RuntimeError):
    """A process ended, or had to be ended, within a task: a crash in native code, memory, time."""


def run_each(
    function: Callable[..., Any],
    tasks: Sequence[tuple],
    *,
    workers: int,
    time_limit_s: float | int | None = None,
) -> Iterator[tuple[int, Any]]:
    """(number of the task, function(*task) or the exception that it raised), as the tasks finish.

    With `workers` 0 they run one after the other in this process, where a crash is a crash and no time limit
    holds; else in as many fresh processes, and what kills one of them is a WorkerKilledError of its task.
    Function and tasks must be such that a spawned process can import and be sent them.
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
    """One process and the end of the line to it."""

    def __init__(self, function: Callable[..., Any]):
        # A fresh interpreter: the caller may hold threads, which a fork would break.
        context = get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()  # so that the death of the process ends the line
        self.number: int | None = None
        self.since = 0.0

    def give(self, number: int, task: tuple) -> None:
        self.number, self.since = number, time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):  # dead already, as `answer` will notice
            self.line.send(task)

    def answer(self, time_limit_s: float | int | None) -> Any:
        """What became of the task; call it when the process has answered, died or used up its time."""
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
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the parent alone, which then ends the workers
    while True:
        try:
            task = line.recv()
        except EOFError:
            return
        result = _attempt(function, task)
        # Others' exceptions may not survive the journey.
        if isinstance(result, Exception) and type(result).__module__ != "builtins":
            result = RuntimeError(f"{type(result).__name__}: {result}")
        line.send(result)


def _attempt(function: Callable[..., Any], task: tuple) -> Any:
    try:
        return function(*task)
    except Exception as error:
        return error


def _answering(busy: list[_Worker], time_limit_s: float | int | None) -> list[_Worker]:
    """Those that have answered, died or used up their time; waits until there is one."""
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
    names = {-signal.SIGSEGV: "a crash in native code", -signal.SIGKILL: "killed, perhaps for want of memory"}
    return names.get(exit_code, f"signal {-exit_code}")
