"""Procedural cars."""
