"""glTF 2.0 files read whole: arrays, nodes, materials and extensions become plain meshes."""
