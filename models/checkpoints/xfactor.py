"""Published weights of XFactor: the arrays of a flax tree, in an .npz or safetensors file.

A kernel is (in, out) there and (out, in) here. Of a layer's four root-mean-square norms, 0 and 1 belong to
query and key over all views, 2 and 3 to those within a view, as figures of the published modules show.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from config.run import RunConfig, load_config
from data.files import write_synced
from models.checkpoints.format import Checkpoint
from models.checkpoints.opened_file import CheckpointFile
from models.checkpoints.torch_file import check_tensor, separate

# Only its data and options of training are used; the networks follow from the weights.
PUBLISHED_CONFIG = Path(__file__).parents[2] / "config" / "xfactor_multiview.json"
COLLECTION = "params/"  # flax's name of all weights, which may precede every name
MARKS = frozenset({"PoseEnc/global_embed", "PoseEnc/Dense_0/kernel", "Render/MLP3_0/Dense_2/kernel"})
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


def is_xfactor(file: CheckpointFile) -> bool:
    """Whether a file holds the arrays of both published networks."""
    return {name.removeprefix(COLLECTION) for name in file.names()} >= MARKS


def load_xfactor(file: CheckpointFile, config: RunConfig | None) -> Checkpoint:
    """Load a published tree as a checkpoint of ours.

    Its config is `config` (default: config/xfactor_multiview.json) with the networks of the weights. Raises
    ValueError if an entry is not a plain tensor, or the weights are not of such networks.
    """
    tree = dict(file.weights())
    for name, value in tree.items():
        check_tensor(file.path, name, value)
    try:
        tensors = from_flax({name.removeprefix(COLLECTION): value for name, value in tree.items()})
        network = _network(tensors)
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from error
    document = (load_config(PUBLISHED_CONFIG) if config is None else config).model_dump(mode="json")
    given = document["model"] if document["model"]["family"] == "xfactor" else {"family": "xfactor"}
    model = given | {"network": given.get("network", {}) | network}
    own = {f"model.{name}": value for name, value in tensors.items()}
    return Checkpoint(file.path, 0, document | {"model": model}, separate(own))


def write_flax(path: Path, weights: dict[str, Tensor]) -> None:
    """Write weights by our names as the published tree, an .npz file of arrays by their names in it.

    Raises ValueError naming a weight that the published networks have not.
    """
    arrays = {name: value.float().cpu().numpy() for name, value in to_flax(weights).items()}

    def write(unfinished: Path) -> None:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)

    write_synced(path, write)


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


def _network(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The sizes of both networks. Raises ValueError where shapes tell none."""
    try:
        values, width = weights["pose_encoder.embed.weight"].shape[::-1]
        heads = weights["pose_encoder.transformer.layers.0.head_norms.0.gain"].shape[0]
        pose_tokens = weights["pose_encoder.pose_tokens"].shape[0]
        pose_size = weights["pose_encoder.head.4.weight"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError("has not all arrays of both networks; dump the whole tree") from error
    patch = round((values // 3) ** 0.5)
    if 3 * patch**2 != values:
        raise ValueError(
            f"reads patches of {values} numbers, which are no squares of pixels in three colours"
        )
    prefix = "pose_encoder.transformer.layers."
    layers = len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})
    return {
        "width": width,
        "heads": heads,
        "layers": layers,
        "patch": patch,
        "pose_size": pose_size,
        "pose_tokens": pose_tokens,
    }
