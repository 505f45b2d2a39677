"""Measure the speed of this project against a plain implementation and the hardware limit."""

from scripts.benchmark.program import main

__all__ = ["main"]
