"""python -m scripts.export_geometry: meshes and point clouds of volumes."""
