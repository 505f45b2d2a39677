"""Training in several processes: start them, join them, and report why one of them ended."""

import argparse
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from pathlib import Path

    from models.training.distributed import Workers
    from models.training.interruption import StopSignal

REPEATED = "TRAIN_REPEATED"  # in the environment if the launcher prints why a process ended
SLOW_S = 30.0  # until a process prints that it waits for others
ANOTHER_ENDED = "another rank ended; see its message"


def is_one_of_several() -> bool:
    """Whether this is one of several processes of a launcher; `joined` rejects a malformed environment."""
    from models.training.rank_environment import read_ranks

    with suppress(ValueError):
        return read_ranks(os.environ).world > 1
    return False


def add_process_options(parser: argparse.ArgumentParser) -> None:
    """Add `--processes` and `--restarts`, with which the program starts its processes itself."""
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="train in N processes of this machine, one for each GPU",
    )
    parser.add_argument(
        "--restarts",
        type=int,
        default=0,
        metavar="N",
        help="when one of them dies, restart from the last checkpoint, up to N times (not after exit code 2)",
    )


def launch_processes(program: str, argv: list[str] | None, run_folders: "Callable[[], list[Path]]") -> int:
    """Run the program in several processes; returns its exit code, and prints last why it is not 0.

    `run_folders` finds the run directories, in order, and raises ValueError if the config is wrong.
    """
    from models.training.rank_environment import read_ranks

    parser = argparse.ArgumentParser()
    add_process_options(parser)
    options, rest = parser.parse_known_args(argv)
    try:
        read_ranks(os.environ)
    except ValueError as error:
        return fail(str(error))
    if is_one_of_several():
        return fail(
            "--processes and --restarts are for a machine without torchrun; leave them out, or unset "
            "WORLD_SIZE"
        )
    if options.processes < 1 or options.restarts < 0:
        return fail("--processes must be 1 or more and --restarts 0 or more")
    if options.processes == 1:
        advice = "--processes N starts several, one for each GPU"
        print(
            f"train.py: one process, restarted up to {options.restarts} times if it dies; {advice}",
            file=sys.stderr,
        )
    from scripts.common.process_pool import available_cores
    from scripts.training.launch import launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // options.processes)))
    # Saving may take long; whoever stops this process has a timeout of its own.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")
    # Otherwise restarted processes find old addresses in the shared store.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    if not options.restarts:  # with restarts, the line and its repetition would be far apart
        os.environ[REPEATED] = "1"
    logging.disable(logging.WARNING if options.restarts else logging.ERROR)  # the last line says more
    try:
        folders = run_folders()
        outcome = launch([program, *rest], processes=options.processes, restarts=options.restarts)
    except (ValueError, OSError) as error:
        return fail(str(error))
    return fail(f"{outcome.message}; {_resumption(folders)}", code=outcome.code) if outcome.code else 0


@contextmanager
def joined(device_name: str, stop: "StopSignal") -> "Iterator[Workers]":
    """Context of the process group that the environment describes.

    While joining, a signal (also an earlier one, known to `stop`) ends the process immediately, since it may
    be waiting for a dead one. Raises ValueError if the device does not exist, and LostRankError if another
    process dies later.
    """
    from models.training.distributed import join_workers

    if not is_one_of_several():
        yield join_workers(device_name, os.environ)
        return
    sys.excepthook = _fail_unexpectedly
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_mind_the_launcher, args=(os.getppid(),), daemon=True).start()
    with _ended_by_signals(), _said_if_slow():
        if stop.requested:
            signal.raise_signal(signal.SIGTERM)
        workers = join_workers(device_name, os.environ)
    with workers.session(_abandon):
        yield workers


def exit_code(error: BaseException) -> int:
    """The exit code of an error that is one line: 2 if the user must act, 1 if a restart may help."""
    from data.files import is_temporary

    return 1 if is_temporary(error) else 2


def fail(message: str, *, code: int = 2, first: bool = True) -> int:
    """Print why the program fails; returns the exit code, as of `exit_code`.

    One of several processes adds its rank, reports to the launcher and exits here; it prints nothing if the
    launcher will. Not `first`: it fails because another process did.
    """
    if not is_one_of_several():
        print(f"train.py: {message}", file=sys.stderr)
        return code
    from models.training.rank_environment import read_ranks
    from scripts.training.launch import record_failure

    message = f"rank {read_ranks(os.environ).rank}: {message}"
    if REPEATED not in os.environ:
        print(
            f"\ntrain.py: {message}", file=sys.stderr, flush=True
        )  # below the progress bar of the main process
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        record_failure(path, message, first=first)
    for loader in multiprocessing.active_children():
        loader.kill()  # inherited sockets would keep the connection to the other processes open
    # Exit without cleanup, as the process group may be dead: a GPU may wait for GPUs of ended processes.
    os._exit(code)


def _abandon() -> None:
    fail(ANOTHER_ENDED, code=1, first=False)


def _fail_unexpectedly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    fail(f"{kind.__name__}: {error}", code=1)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Context with default signal handlers, as there is nothing to save."""
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _said_if_slow() -> Iterator[None]:
    """Context that prints a message if joining takes long; the environment may be left over from a job."""
    place = ":".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    line = f"train.py: waiting at {place} for the other processes of WORLD_SIZE={os.environ['WORLD_SIZE']}"
    timer = threading.Timer(SLOW_S, print, args=[line], kwargs={"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _mind_the_launcher(launcher: int) -> None:
    """Stop the run if its launcher has been killed, so that it does not continue unnoticed."""
    while os.getppid() == launcher:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _resumption(folders: "list[Path]") -> str:
    """Say from where the run can be resumed."""
    from models.checkpoints.format import checkpoints_of

    saved = [path for folder in folders for path in checkpoints_of(folder)]
    if not saved:
        return "there is no checkpoint yet"
    step = int(saved[-1].stem.rpartition("-")[2])
    return f"the same command resumes {saved[-1].parent.parent} at step {step}"
