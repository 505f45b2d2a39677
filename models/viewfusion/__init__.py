"""ViewFusion: a diffusion model that composes any number of unordered source views."""
