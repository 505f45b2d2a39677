"""Published weights of ViewFusion: files of torch.save or safetensors with the state of its U-Net."""

from pathlib import Path

from config.run import RunConfig, load_config
from models.checkpoints.format import Checkpoint
from models.checkpoints.opened_file import CheckpointFile
from models.checkpoints.torch_file import check_tensor, separate
from models.viewfusion.published import PREFIXES, load, recognises

# Only its data and sampling options are used; the network follows from the weights.
PUBLISHED_CONFIG = Path(__file__).parents[2] / "config" / "viewfusion_nmr.json"


def is_viewfusion(file: CheckpointFile) -> bool:
    """Whether a file holds ViewFusion's U-Net, bare or under "model"."""
    return recognises(file.names("model", wrappers=PREFIXES))


def load_viewfusion(file: CheckpointFile, config: RunConfig | None) -> Checkpoint:
    """Load a published file as a checkpoint of ours.

    Its config is `config` (default: config/viewfusion_nmr.json) with the network of the weights. Raises
    ValueError if an entry is not a plain tensor, or the weights are not of such a network.
    """
    weights = dict(file.weights("model", wrappers=PREFIXES))
    for name, value in weights.items():
        check_tensor(file.path, name, value)
    try:
        model, tensors = load(weights)
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from error
    document = (load_config(PUBLISHED_CONFIG) if config is None else config).model_dump(mode="json")
    own = {f"model.{name}": value for name, value in tensors.items()}
    return Checkpoint(file.path, 0, document | {"model": model}, separate(own))
