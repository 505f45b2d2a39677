"""Start several training processes on one machine, and find out why they ended."""

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

MISTAKE = 2  # exit code for errors of the user


@dataclass(frozen=True)
class Outcome:
    """How the processes ended: the joint exit code, and a message for the user if it is not 0."""

    code: int
    message: str = ""


def launch(command: list[str], *, processes: int, restarts: int = 0) -> Outcome:
    """Run a Python program, given by its file and arguments, in several processes until they end.

    Their ranks are in the environment. If one fails, the others are ended, and all are restarted up to
    `restarts` times, unless the cause is an error of the user, which would recur. SIGTERM and SIGINT are
    passed on, and are not a failure if the processes end with exit code 0.
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
    """Report to the launcher why this process ends, by the file named in TORCHELASTIC_ERROR_FILE.

    Not `first`: it ends because another process did, which is the cause.
    """
    # For the launcher, the earliest failure is the cause.
    timestamp = int(time.time()) + (0 if first else 10)
    Path(path).write_text(json.dumps({"message": message, "timestamp": timestamp}), encoding="utf-8")


def _outcome(rank: int, failure: ProcessFailure) -> Outcome:
    """The message of a failed process, or else how it ended."""
    code = MISTAKE if failure.exitcode == MISTAKE else 1
    if failure.error_file_data.get("message") == failure.message:
        return Outcome(code, failure.message)
    if failure.exitcode < 0:
        guess = " (out of memory?)" if failure.signal_name() == "SIGKILL" else ""
        return Outcome(code, f"rank {rank} was killed by {failure.signal_name()}{guess}")
    return Outcome(code, f"rank {rank} ended with exit code {failure.exitcode}")


def _after_signal(folder: Path) -> Outcome:
    """The outcome after a signal, from the processes' messages; their exit codes are not known."""
    last = max(folder.iterdir(), key=lambda attempt: int(attempt.name), default=folder)
    found = [json.loads(path.read_text("utf-8")) for path in last.glob("*/attempt_*/*/error.json")]
    if not found:
        return Outcome(0)
    return Outcome(1, min(found, key=lambda failure: failure["timestamp"])["message"])
