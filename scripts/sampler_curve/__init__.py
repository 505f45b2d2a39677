"""Quality versus sampling steps, for every sampler."""
