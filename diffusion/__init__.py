"""Diffusion as formulated by Karras et al. 2022 (arXiv:2206.00364, "EDM"): denoiser, noise levels, samplers.

A noisy image is `clean + sigma * noise`; a denoiser estimates E[clean | noisy]. k-diffusion provides the
U-Net and the samplers; it is imported only in `diffusion.k_diffusion`, on first use.
"""
