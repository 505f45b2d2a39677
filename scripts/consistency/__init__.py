"""Measure the consistency of view sequences."""
