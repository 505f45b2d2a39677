"""The measurements, one file per part."""
