"""ViewFusion: a diffusion model that composes what it sees in any number of unordered views."""
