"""Shared code of all programs: progress, results, process pools."""
