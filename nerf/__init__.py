"""Feature volumes and their rendering into latent images."""
