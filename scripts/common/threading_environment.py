"""How long threads wait for each other by spinning, set before torch loads its OpenMP library.

At the end of a parallel loop threads wait for the slowest. GNU OpenMP, which torch's wheels contain, spins
300000 times before it sleeps: a thread that spins takes the core from the very thread that it waits for where
other programs use the cores, too. docs/busy_machines.md has measurements.
"""

from collections.abc import MutableMapping

SPIN_COUNT = "GOMP_SPINCOUNT"
SPINS = 10_000
# Variables by which users choose how threads wait; one of them is enough.
CHOICES = (SPIN_COUNT, "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "KMP_LIBRARY")


def limit_spinning(environment: MutableMapping[str, str]) -> None:
    """Limit spinning for this process and those it starts, unless the user has chosen how threads wait."""
    if not any(environment.get(name) for name in CHOICES):
        environment[SPIN_COUNT] = str(SPINS)
