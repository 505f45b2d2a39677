"""The rendered ShapeNet of NMR (Kato et al. 2018), as pixelNeRF and others use it."""
