"""Quality against sampling steps, for every sampler."""
