"""Regression of colours from feature volumes: GeNVS without its denoiser."""
