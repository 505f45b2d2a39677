"""One HTML page of a training run: previews, curves, a summary, warnings, the config."""
