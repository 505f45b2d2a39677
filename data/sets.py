"""Old name of `data.formats.registry`, kept for existing scripts and notebooks."""

from data.formats.registry import open_split

__all__ = ["open_split"]
