"""Sampling of view sequences, for all families."""
