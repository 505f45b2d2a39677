"""Diffusion as formulated by Karras et al. 2022 (arXiv:2206.00364, "EDM"): denoiser, noise levels, samplers.

A noisy image is `clean + sigma * noise`; a denoiser answers with E[clean | noisy]. k-diffusion supplies the
U-Net and the samplers; it is imported here and nowhere else, on first use (`upstream`).
"""
