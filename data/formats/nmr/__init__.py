"""ShapeNet as rendered for NMR (Kato et al. 2018) and used by pixelNeRF and others."""
