"""Published weights of XFactor: the arrays of a flax tree, in an .npz or safetensors file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from config.run import RunConfig, load_config
from data.files import write_synced
from models.checkpoints.flax_names import from_flax, to_flax
from models.checkpoints.format import Checkpoint
from models.checkpoints.opened_file import CheckpointFile
from models.checkpoints.torch_file import check_tensor, separate

# Only its data and options of training are used; the networks follow from the weights.
PUBLISHED_CONFIG = Path(__file__).parents[2] / "config" / "xfactor_multiview.json"
COLLECTION = "params/"  # flax's name of all weights, which may precede every name
MARKS = frozenset({"PoseEnc/global_embed", "PoseEnc/Dense_0/kernel", "Render/MLP3_0/Dense_2/kernel"})


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
