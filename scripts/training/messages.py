"""Messages on stderr: warnings of a run, and notices about a data set."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from models.training.distributed import Workers


def warn(message: str, workers: "Workers | None" = None) -> None:
    """Print a warning, with the rank if there are several `workers`."""
    rank = "" if workers is None or workers.is_single else f"rank {workers.rank}: "
    print(f"\ntrain.py: {rank}warning: {message}", file=sys.stderr)


def tell(notices: Iterable[str], program: str) -> None:
    """Print notices for the user, each line once."""
    for notice in dict.fromkeys(notices):
        print(f"{program}: {notice}", file=sys.stderr)


@contextmanager
def tolerate_disk_errors(forgive: bool = True) -> Iterator[None]:
    """Context in which a failed write, for example to a full disk, is a warning instead of an error."""
    try:
        yield
    except (OSError, ValueError) as error:
        if not forgive or not (isinstance(error, OSError) or isinstance(error.__cause__, OSError)):
            raise
        warn(f"{error}; the run goes on without it")
