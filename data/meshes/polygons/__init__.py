"""Triangulation of the polygons in OBJ, PLY, OFF and COLLADA files, before they are loaded."""
