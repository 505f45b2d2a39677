"""Shared by families with a denoiser."""
