"""Transfer batches from loader processes through shared memory.

torch's DataLoader moves tensors to shared memory in a thread of the loader process. An error there is printed
and the batch is lost, so training hangs. Here the loader process packs each batch itself, so that an error
can be sent instead.
"""

import errno
import multiprocessing
import re
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler

import torch.multiprocessing  # noqa: F401 (teaches ForkingPickler to put tensors into shared memory)

from data.files import TemporaryError, first_line
from data.scenes.batch import SceneBatch

FULL = (errno.ENOSPC, errno.ENOMEM, errno.EFBIG)
ADVICE = "lower data.workers; 0 needs no shared memory"
MEMORY = "if memory ran out, lower data.workers or data.cache_mb"


@dataclass(frozen=True)
class Parcel:
    """A batch whose tensors are in shared memory, and which is cheap to send."""

    content: bytes

    def opened(self) -> SceneBatch | ValueError:
        """Return the batch, or a ValueError if its memory cannot be mapped. Call it once."""
        try:
            # From our own process; the DataLoader would do the same.
            return ForkingPickler.loads(self.content)
        except (ConnectionError, FileNotFoundError, EOFError):  # the sender is gone
            return TemporaryError(f"a loader process ended; {MEMORY}")
        except (OSError, RuntimeError) as error:
            return _refusal(error)

    def pin_memory(self) -> SceneBatch | ValueError:
        """Return the batch in pinned memory; torch's DataLoader calls this."""
        batch = self.opened()
        return batch if isinstance(batch, ValueError) else batch.pin_memory()


def pack(batch: SceneBatch) -> Parcel | ValueError:
    """Move a batch to shared memory; returns a ValueError for the user if it does not fit."""
    try:
        return Parcel(bytes(ForkingPickler.dumps(batch)))
    except (OSError, RuntimeError) as error:
        return _refusal(error)


def require_shared_memory() -> None:
    """Raise ValueError if there is no shared memory even for synchronisation."""
    try:
        multiprocessing.Semaphore()
    except OSError as error:
        raise _refusal(error) from error


def lost_process(error: BaseException) -> ValueError | None:
    """Return an error for the user if this one of torch reports that a loader process died, else None."""
    found = re.match(
        r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\)(?: is killed by signal: (.+?)\.)?", str(error)
    )
    if found is None:
        return None
    if "Bus error" in str(found[2]):
        return _refusal(OSError(errno.ENOSPC, "Bus error"))
    cause = f"was killed by a signal ({found[2]})" if found[2] else "ended"
    return TemporaryError(f"loader process {found[1]} {cause}; {MEMORY}")


def _refusal(error: BaseException) -> ValueError:
    """Return an error message for the user."""
    reason = first_line(error)
    number = getattr(error, "errno", None) or int((re.findall(r"\((\d+)\)\s*$", reason) or [0])[-1])
    if number in FULL:
        return ValueError(f"shared memory is full; raise --shm-size (of a container) or {ADVICE} ({reason})")
    if number in (errno.EMFILE, errno.ENFILE) or "ancdata" in reason:
        return ValueError(f"too many open files; raise the limit (ulimit -n) or {ADVICE} ({reason})")
    return ValueError(f"shared memory cannot be used ({reason}); {ADVICE}")
