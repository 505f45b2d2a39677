"""Packed sets: one memory-mapped file per split."""
