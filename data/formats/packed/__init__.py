"""Packed data sets: memory-mapped safetensors files per split."""
