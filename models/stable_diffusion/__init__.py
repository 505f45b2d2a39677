"""Stable Diffusion as a denoiser of novel views: its frozen base, a ControlNet on rendered features, and
attention across views. diffusers and transformers are imported on first use."""
