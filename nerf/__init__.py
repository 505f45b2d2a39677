"""Feature volumes and volume rendering into latent images."""
