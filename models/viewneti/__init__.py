"""ViewNeTI: learned words, which depend on the camera, steer a frozen Stable Diffusion."""
