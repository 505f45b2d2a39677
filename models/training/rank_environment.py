"""The rank of a process in a distributed job, from the environment variables that launchers set.

Empty variables count as not set. Imports nothing slow.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MOST = 10**6  # processes
REMEDY = "torchrun sets it; unset RANK, WORLD_SIZE and LOCAL_RANK for a single process"


@dataclass(frozen=True)
class Ranks:
    """The rank of a process; by default a single process."""

    rank: int = 0  # among all processes, from 0
    local_rank: int = 0  # among those of its machine
    world: int = 1  # processes in all


def read_ranks(environment: Mapping[str, str]) -> Ranks:
    """Read RANK, LOCAL_RANK and WORLD_SIZE.

    Raises ValueError if one of them is malformed or they contradict each other.
    """
    world = _whole_number(environment, "WORLD_SIZE", 1, MOST)
    rank = _whole_number(environment, "RANK", 0, MOST)
    local_rank = _whole_number(environment, "LOCAL_RANK", 0, MOST)
    local_world = _whole_number(environment, "LOCAL_WORLD_SIZE", 1, MOST)
    if world is None:
        for name, value in (("RANK", rank), ("LOCAL_RANK", local_rank)):
            if value:
                raise ValueError(f"{name}={value}, but WORLD_SIZE is not set; {REMEDY}")
        return Ranks()
    if rank is None and world > 1:
        raise ValueError(f"WORLD_SIZE={world}, but RANK is not set; {REMEDY}")
    for name, value, size_name, size in (
        ("RANK", rank, "WORLD_SIZE", world),
        ("LOCAL_RANK", local_rank, "WORLD_SIZE", world),
        ("LOCAL_RANK", local_rank, "LOCAL_WORLD_SIZE", local_world),
    ):
        if value is not None and size is not None and value >= size:
            raise ValueError(f"{name}={value}: must be less than {size_name}={size}; {REMEDY}")
    return Ranks(rank or 0, local_rank or 0, world)


def read_meeting_point(environment: Mapping[str, str]) -> tuple[str, int]:
    """Read MASTER_ADDR and MASTER_PORT, where the processes of a job meet.

    Raises ValueError if one is missing or malformed.
    """
    port = _whole_number(environment, "MASTER_PORT", 1, 65535)
    address = environment.get("MASTER_ADDR", "").strip()
    for name, value in (("MASTER_ADDR", address), ("MASTER_PORT", port)):
        if not value:
            raise ValueError(f"WORLD_SIZE is more than 1, but {name} is not set; {REMEDY}")
    return address, port


def _whole_number(environment: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """Read a variable; None if it is not set."""
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most):
        raise ValueError(f"{name}={text[:40]!r}: must be a whole number from {least} to {most}; {REMEDY}")
    return int(text)
