"""python -m scripts.evaluate: protocols, images, metrics, tables."""
