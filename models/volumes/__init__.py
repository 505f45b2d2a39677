"""Shared by families with feature volumes: encoder, rendering, losses, diagnostics."""
