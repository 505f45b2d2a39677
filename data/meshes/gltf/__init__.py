"""Read glTF 2.0 files: arrays, nodes, materials and extensions become plain meshes."""
