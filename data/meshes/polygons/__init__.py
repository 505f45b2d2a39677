"""Polygons of mesh files become triangles."""
