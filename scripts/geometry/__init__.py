"""Parts of scripts/export_geometry.py."""
