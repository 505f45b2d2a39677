"""Data sets made of meshes: which meshes, which cameras, which split."""
