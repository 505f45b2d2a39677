"""Feature volumes and volume rendering into latent images.

In order: `sampling` places samples along rays, `volume` interpolates the features of the source views there
(`FrustumVolume.sample`), `field` turns them into density and colour, `composite` integrates along each ray.
`renderer` is the module that models use, `backends` chooses an implementation: the reference (these files),
`cpu/` or `fused/`.
"""
