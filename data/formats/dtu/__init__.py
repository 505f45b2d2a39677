"""DTU's multi-view stereo scans (Jensen et al. 2014), as arranged for novel view synthesis."""
