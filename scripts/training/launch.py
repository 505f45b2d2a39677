"""Several processes that train together on one machine: starting them, and why they ended."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

MISTAKE = 2  # exit code of a process that met a user's mistake


@dataclass(frozen=True)
class Outcome:
    """How the processes ended: the exit code of the whole, and what to tell the user where it is not 0."""

    code: int
    message: str = ""


def launch(command: list[str], *, processes: int, restarts: int = 0) -> Outcome:
    """Run a Python program, given by its file and arguments, in several processes until they end. They find
    their ranks in the environment.

    When one of them fails, the others are ended, and up to `restarts` times all are started again, unless the
    cause is a user's mistake, which would be met again. A SIGTERM or SIGINT to this process is passed on, and
    is no failure where they end well.
    """
    with TemporaryDirectory(prefix="train_") as folder:
        try:
            for attempt in range(restarts + 1):
                outcome = _launch_once(command, processes, Path(folder), attempt)
                if outcome.code in (0, MISTAKE):
                    break
            return outcome
        except SignalException:
            return _after_signal(Path(folder))


def _launch_once(command: list[str], processes: int, folder: Path, attempt: int) -> Outcome:
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"train-{attempt}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # a port that is free
        local_addr="localhost",
        max_restarts=0,  # torch would repeat every failure, whatever its cause
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / str(attempt))),
    )
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        return _outcome(*error.get_first_failure())
    return Outcome(0)


def record_failure(path: str | Path, message: str, *, first: bool = True) -> None:
    """Tell the launcher why this process ends, by the file whose `path` it gave in TORCHELASTIC_ERROR_FILE.

    Not `first`: it ends because another one did, which counts as the cause.
    """
    # The launcher takes the failure of the earliest time for the cause.
    timestamp = int(time.time()) + (0 if first else 10)
    Path(path).write_text(json.dumps({"message": message, "timestamp": timestamp}), encoding="utf-8")


def _outcome(rank: int, failure: ProcessFailure) -> Outcome:
    """The words for a failure: the process's own, or else those for how it ended."""
    code = MISTAKE if failure.exitcode == MISTAKE else 1
    if failure.error_file_data.get("message") == failure.message:
        return Outcome(code, failure.message)
    if failure.exitcode < 0:
        guess = " (out of memory?)" if failure.signal_name() == "SIGKILL" else ""
        return Outcome(code, f"rank {rank} was killed by {failure.signal_name()}{guess}")
    return Outcome(code, f"rank {rank} ended with exit code {failure.exitcode}")


def _after_signal(folder: Path) -> Outcome:
    """What the processes left that were told to stop: their exit codes are not known, but their messages."""
    last = max(folder.iterdir(), key=lambda attempt: int(attempt.name), default=folder)
    found = [json.loads(path.read_text("utf-8")) for path in last.glob("*/attempt_*/*/error.json")]
    if not found:
        return Outcome(0)
    return Outcome(1, min(found, key=lambda failure: failure["timestamp"])["message"])
