"""Shared code of HTML pages: templates, style, embedded images, number formats."""
