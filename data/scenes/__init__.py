"""Scenes: batches of views, the objects they come from, and the loader that orders them."""
