"""How `python -m scripts.evaluate` judges models: protocols, pictures, metrics, tables."""
