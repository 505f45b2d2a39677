"""Old name of `models.sampling.autoregressive`, kept for existing scripts and notebooks."""

from models.sampling.autoregressive import sample_autoregressive

__all__ = ["sample_autoregressive"]
