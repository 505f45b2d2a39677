"""Stable Diffusion with a ControlNet on rendered features, several views together."""
