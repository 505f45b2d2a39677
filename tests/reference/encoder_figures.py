"""The encoder: published figures beside ours."""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.checkpoints.published import published_key
from models.volumes.encoder import Encoder
from tests.reference import rule
from tests.reference.conventions import arrays, published_model
from tests.reference.figure import Figure

# Float32 against float64 deviates by up to 1.7e-5 in the published code itself.
TOLERANCE = 2e-4


def full_encoder() -> Encoder:
    """The published network of 74 million weights."""
    with torch.device("meta"):
        network = Encoder(published_model().encoder, init_weights=False)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    weights = {name: rule.weight(published_key(f"encoder.{name}"), shape) for name, shape in shapes.items()}
    network.load_state_dict(weights, assign=True)
    return network


@torch.no_grad()
def full() -> Iterator[Figure]:
    """Features of every stage and planes of a 64 x 64 image, which is already normalised and turned round."""
    network, stored = full_encoder(), arrays("encoder")
    features = network.backbone(rule.randn("enc64.x", (1, 3, 64, 64)))
    for level in range(1, 6):
        found = features[level]
        yield Figure(f"stage {level}", found[:, ::8, ::2, ::2], stored[f"s64_feat{level}_slice"], TOLERANCE)
        yield Figure(
            f"stage {level}, mean and std", mean_std(found), stored[f"s64_feat{level}_stats"], TOLERANCE
        )
    pyramid = torch.relu(network.decoder.refine(network.decoder.pyramid(features[5])))
    yield Figure("pyramid", pyramid[:, ::16], stored["s64_aspp_slice"], TOLERANCE)
    planes = network.decoder(features).flatten(1, 2)
    yield Figure("planes", planes[:, ::16, ::8, ::8], stored["s64_out_slice"], TOLERANCE)
    yield Figure("means of channels", planes.mean((2, 3)), stored["s64_chan_mean"], TOLERANCE)
    yield Figure(
        "deviations of channels", planes.std((2, 3), correction=0), stored["s64_chan_std"], TOLERANCE
    )
    extremes = torch.stack([planes.min(), planes.max()])
    whole = torch.cat([mean_std(planes), extremes])
    yield Figure("mean, std, least, most", whole, stored["s64_out_stats"], TOLERANCE)


def mean_std(values: Tensor) -> Tensor:
    """Of all numbers together."""
    return torch.stack([values.mean(), values.std(correction=0)])
