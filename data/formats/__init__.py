"""Data set layouts behind one interface."""
