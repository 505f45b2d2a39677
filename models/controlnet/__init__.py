"""Stable Diffusion with a ControlNet on rendered features, view by view."""
