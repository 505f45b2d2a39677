"""Names of the published parameters, a tree of flax modules, and ours.

A kernel is (in, out) there and (out, in) here. Of a layer's four root-mean-square norms, 0 and 1 belong to
query and key over all views, 2 and 3 to those within a view, as figures of the published modules show.
"""

import re

from torch import Tensor

LAYER = {
    "LayerNorm_0": "attention_norm",
    "Dense_0": "project",
    "RMSNorm_0": "head_norms.0",
    "RMSNorm_1": "head_norms.1",
    "RMSNorm_2": "head_norms.2",
    "RMSNorm_3": "head_norms.3",
    "Dense_1": "merge",
    "LayerScale_0": "attention_scale",
    "LayerNorm_1": "mlp_norm",
    "MLP2_0/Dense_0": "mlp.0",
    "MLP2_0/Dense_1": "mlp.2",
    "LayerScale_1": "mlp_scale",
}
PARTS = {
    "PoseEnc/Dense_0": "pose_encoder.embed",
    "PoseEnc/LayerNorm_0": "pose_encoder.norm",
    "PoseEnc/PoseHead_0/MLP3_0/Dense_0": "pose_encoder.head.0",
    "PoseEnc/PoseHead_0/MLP3_0/Dense_1": "pose_encoder.head.2",
    "PoseEnc/PoseHead_0/MLP3_0/Dense_2": "pose_encoder.head.4",
    "Render/MLP2_0/Dense_0": "renderer.embed.0",
    "Render/MLP2_0/Dense_1": "renderer.embed.2",
    "Render/MLP2_1/Dense_0": "renderer.embed_target.0",
    "Render/MLP2_1/Dense_1": "renderer.embed_target.2",
    "Render/LayerNorm_0": "renderer.norm",
    "Render/MLP3_0/Dense_0": "renderer.head.0",
    "Render/MLP3_0/Dense_1": "renderer.head.2",
    "Render/MLP3_0/Dense_2": "renderer.head.4",
}
NETWORKS = {"PoseEnc": "pose_encoder", "Render": "renderer"}
TOKENS = {"PoseEnc/global_embed": "pose_encoder.pose_tokens"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "alpha": "gain"}
IN_LAYER = re.compile(r"(PoseEnc|Render)/layers_(\d+)/(.+)")


def our_name(name: str) -> str | None:
    """Our name of a published parameter; None if the published model has no such parameter."""
    if name in TOKENS:
        return TOKENS[name]
    module, _, leaf = name.rpartition("/")
    if found := IN_LAYER.fullmatch(module):
        network, number, rest = found.groups()
        ours = LAYER.get(rest) and f"{NETWORKS[network]}.transformer.layers.{number}.{LAYER[rest]}"
    else:
        ours = PARTS.get(module)
    return f"{ours}.{LEAVES[leaf]}" if ours and leaf in LEAVES else None


def from_flax(tree: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert published weights to ours. Raises ValueError naming an unknown one."""
    weights = {}
    for name, value in tree.items():
        ours = our_name(name)
        if ours is None:
            raise ValueError(f"{name} is not a parameter of a published XFactor")
        weights[ours] = value.T.contiguous() if name.endswith("/kernel") else value
    return weights


def to_flax(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert our weights to published names and shapes. Raises ValueError naming one without."""
    return dict(_to_flax(name, value) for name, value in weights.items())


def _to_flax(name: str, value: Tensor) -> tuple[str, Tensor]:
    module, _, leaf = name.rpartition(".")
    for theirs, ours in TOKENS.items():
        if name == ours:
            return theirs, value
    if found := re.fullmatch(r"(pose_encoder|renderer)\.transformer\.layers\.(\d+)\.(.+)", module):
        network = next(key for key, ours in NETWORKS.items() if ours == found[1])
        rest = next((key for key, ours in LAYER.items() if ours == found[3]), None)
        theirs = rest and f"{network}/layers_{found[2]}/{rest}"
    else:
        theirs = next((key for key, ours in PARTS.items() if ours == module), None)
    if theirs is None or leaf not in ("weight", "bias", "gain"):
        raise ValueError(f"{name} has no name in the published XFactor")
    if leaf == "gain":
        return f"{theirs}/alpha", value
    if leaf == "bias":
        return f"{theirs}/bias", value
    return (f"{theirs}/kernel", value.T.contiguous()) if value.ndim == 2 else (f"{theirs}/scale", value)
