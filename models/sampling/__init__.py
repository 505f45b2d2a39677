"""Sampling of view sequences, whatever the family."""
