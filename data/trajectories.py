"""Old name of `data.cameras.trajectories`, kept for existing scripts and notebooks."""

from data.cameras.trajectories import trajectory

__all__ = ["trajectory"]
