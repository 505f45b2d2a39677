"""Triangulation of polygons in mesh files."""
