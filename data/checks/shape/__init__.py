"""Checks of what views say about an object's shape: silhouettes, depth, agreement."""
