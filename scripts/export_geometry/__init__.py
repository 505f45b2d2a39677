"""Parts of scripts/export_geometry/__main__.py."""
