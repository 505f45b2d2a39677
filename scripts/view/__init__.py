"""Parts of python -m scripts.view: a window in the browser to look through at a model's volumes."""
