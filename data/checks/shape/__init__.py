"""Checks that the views of an object agree on its shape, by silhouettes or depth."""
