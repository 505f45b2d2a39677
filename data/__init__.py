"""Cameras, batches, data sets and pictures."""
