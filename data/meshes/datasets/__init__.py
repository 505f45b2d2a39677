"""Data sets rendered from meshes: meshes, cameras and splits."""
