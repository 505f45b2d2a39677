"""Packing of data sets into memory-mapped files."""
