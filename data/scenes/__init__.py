"""Scenes: batches of views, data set objects, and the training loader."""
