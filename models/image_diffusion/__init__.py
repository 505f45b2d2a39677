"""Diffusion conditioned on source photos: GeNVS without its volume."""
