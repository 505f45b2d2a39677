"""Cameras, scene batches, data sets and images."""
