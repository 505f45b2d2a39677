"""Checkpoints: the formats that can be opened, and how weights are transferred."""
