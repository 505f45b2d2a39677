"""Limit how long OpenMP threads spin before they sleep; set before torch loads its OpenMP library.

At the end of a parallel loop, threads wait for the slowest. GNU OpenMP, which torch's wheels bundle, spins
300000 times before it sleeps. If other programs use the same cores, a spinning thread takes the core from the
thread that it waits for. docs/busy_machines.md has measurements.
"""

from collections.abc import MutableMapping

SPIN_COUNT = "GOMP_SPINCOUNT"
SPINS = 10_000
# Variables by which users set how threads wait.
CHOICES = (SPIN_COUNT, "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "KMP_LIBRARY")


def limit_spinning(environment: MutableMapping[str, str]) -> None:
    """Limit spinning in this process and its children, unless the user has set how threads wait."""
    if not any(environment.get(name) for name in CHOICES):
        environment[SPIN_COUNT] = str(SPINS)
