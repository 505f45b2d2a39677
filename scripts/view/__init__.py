"""python -m scripts.view: an interactive viewer for volumes, in the browser."""
