"""GeNVS: generative novel view synthesis with a 3D-aware diffusion model (Chan et al. 2023)."""
