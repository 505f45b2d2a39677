"""Image metrics, their networks, and the files of their weights."""
