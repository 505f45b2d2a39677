"""The folder layout of Scene Representation Networks (Sitzmann et al. 2019)."""
