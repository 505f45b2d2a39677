"""How fast the project is beside the plain way, and beside what the machine could do at best."""

from scripts.benchmark.program import main

__all__ = ["main"]
