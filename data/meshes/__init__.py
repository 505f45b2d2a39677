"""Triangle meshes: loading, materials, ray casting, and the data sets made from them."""
