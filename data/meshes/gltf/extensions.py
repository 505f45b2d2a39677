"""glTF extensions: supported, irrelevant for matte rendering, and unsupported."""

from data.meshes.gltf.compression import DECOMPRESS, DRACO, MESHOPT
from data.meshes.gltf.document import Document

READ = {
    DRACO,
    "EXT_mesh_gpu_instancing",
    "EXT_texture_avif",
    "EXT_texture_webp",
    "KHR_materials_emissive_strength",
    "KHR_materials_pbrSpecularGlossiness",
    "KHR_materials_unlit",
    "KHR_mesh_quantization",
    "KHR_node_visibility",
    "KHR_texture_basisu",  # noted for each material instead
    "KHR_texture_transform",
    "MSFT_texture_dds",
}
# Lights, gloss, animation, metadata: irrelevant for shape and matte colour.
HARMLESS = {
    "EXT_lights_ies",
    "EXT_lights_image_based",
    "EXT_mesh_features",
    "EXT_mesh_manifold",
    "EXT_structural_metadata",
    "KHR_animation_pointer",
    "KHR_audio_emitter",
    "KHR_interactivity",
    "KHR_lights_punctual",
    "KHR_materials_anisotropy",
    "KHR_materials_clearcoat",
    "KHR_materials_dispersion",
    "KHR_materials_ior",
    "KHR_materials_iridescence",
    "KHR_materials_sheen",
    "KHR_materials_specular",
    "KHR_materials_transmission",
    "KHR_materials_variants",  # the default variant is rendered
    "KHR_materials_volume",
    "KHR_node_hoverability",
    "KHR_node_selectability",
    "KHR_physics_rigid_bodies",
    "KHR_xmp",
    "KHR_xmp_json_ld",
    "MSFT_lod",  # the finest level is rendered
    "MSFT_packing_normalRoughnessMetallic",
    "MSFT_packing_occlusionRoughnessMetallic",
}
REMEDIES = dict.fromkeys(MESHOPT, DECOMPRESS)


def require_extensions(document: Document) -> list[str]:
    """Return a line for each extension that is used, relevant and unsupported.

    Raises ValueError, naming the extension, if the file requires it.
    """
    required, used = (_names(document, key) for key in ("extensionsRequired", "extensionsUsed"))
    for name in required:
        if name not in READ | HARMLESS:
            remedy = REMEDIES.get(name, "export it without this extension")
            raise ValueError(f"it needs the glTF extension {name}, which is not supported; {remedy}")
    ignored = sorted(set(used) - READ - HARMLESS - set(MESHOPT))  # an uncompressed copy exists
    return [f"the glTF extension {name[:80]} is ignored" for name in ignored]


def _names(document: Document, key: str) -> list[str]:
    names = document.json.get(key)
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
