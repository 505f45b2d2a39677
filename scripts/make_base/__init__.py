"""A small Stable Diffusion base, trained on procedural cars and their captions."""
