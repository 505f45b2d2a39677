"""Estimate the direction from which a photo was taken, from training views with known cameras.

No trained network is used. A framed image is described by its outline and histograms of oriented gradients
(Dalal and Triggs 2005), and kernel ridge regression on training views predicts the camera direction.
Leave-one-object-out errors of the training views most similar to a photo give the uncertainty of its
estimate.

Directions are unit vectors from the origin towards the camera; z is up. Axes: n view, m photo, f feature.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from data.images.pixels import resize_area
from data.photos.framing import WHITE, frame_picture
from data.scenes.objects import Objects

SIDE = 64  # pixels of the described images
CELLS = 8  # cells along each side
ORIENTATIONS = 8  # bins per histogram, over half a turn
OUTLINE = 16  # cells along each side of the outline
OUTLINE_WEIGHT = 0.1  # of the outline, relative to unit-norm histograms
BANDWIDTH = 0.5  # of the kernel exp(-d^2 / s): s relative to the median of d^2
RIDGE = 0.03  # added to the diagonal of the kernel matrix, whose entries are 2
NUM_EXAMPLES = 4096  # training views; the fit takes cubic time
NUM_OBJECTS = 512  # most objects they are taken from: all cameras of an object are read
NUM_ALIKE = 64  # similar training views that give the expected error
CONFIDENCE = 0.9  # fraction of those errors within the reported one


@dataclass(frozen=True)
class PoseEstimate:
    """Estimated camera direction of a photo, with uncertainty, in degrees.

    Among the `NUM_ALIKE` most similar training views, each estimated without its own object, 90 % have errors
    of at most `elevation_error_deg` and `azimuth_error_deg`.
    """

    elevation_deg: float
    azimuth_deg: float  # -180 to 180
    elevation_error_deg: float
    azimuth_error_deg: float


@dataclass(frozen=True)
class Examples:
    """Training views with known directions."""

    pictures: UInt8[Tensor, "n k k 3"]  # framed; k is SIDE
    directions: Float[Tensor, "n 3"]
    objects: Int[Tensor, "n"]  # object index of each


@dataclass(frozen=True)
class PoseRegression:
    """A regression from image features to directions."""

    features: Float[Tensor, "n f"]
    weights: Float[Tensor, "n 4"]
    scale: float  # s of the kernel
    errors_deg: Float[Tensor, "n 2"]  # leave-one-object-out, of each example: elevation, azimuth

    def predict(self, features: Float[Tensor, "m f"]) -> Float[Tensor, "m 2"]:
        """Predict elevation and azimuth in degrees."""
        return _angles_deg(_kernel(features, self.features, self.scale) @ self.weights)

    def estimate(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]]) -> list[PoseEstimate]:
        """Estimate each framed photo independently."""
        found = []
        for picture in pictures:
            features = describe(_small(picture)[None])
            (elevation, azimuth), *_ = self.predict(features).tolist()
            distances = _squared_distances(features, self.features)[0]
            alike = distances.topk(min(NUM_ALIKE, len(distances)), largest=False).indices
            errors = self.errors_deg[alike].quantile(CONFIDENCE, dim=0).tolist()
            found.append(PoseEstimate(elevation, azimuth, *errors))
        return found


def read_examples(objects: Objects, num: int = NUM_EXAMPLES) -> Examples:
    """Read about `num` framed views, equally many per object; blank views are skipped.

    Deterministic. Raises ValueError if a file cannot be used, or if there are fewer than two objects.
    """
    count = min(num, NUM_OBJECTS, len(objects))
    chosen = [place * len(objects) // count for place in range(count)]
    generator = torch.Generator().manual_seed(0)
    pictures, directions, numbers = [], [], []
    for index in chosen:
        positions = F.normalize(objects.cameras(index).positions, dim=-1)
        order = torch.randperm(objects.num_views(index), generator=generator)
        for view in order[: num // count].tolist():
            picture = frame_picture(objects.stored_picture(index, view))
            if picture is not None:
                pictures.append(_small(picture))
                directions.append(positions[view])
                numbers.append(index)
    if len(set(numbers)) < 2:
        raise ValueError(
            f"data.root={objects.config.root}: estimating a photo's pose needs training views "
            "of two objects or more; give --elevation and --azimuth in degrees"
        )
    return Examples(torch.stack(pictures), torch.stack(directions), torch.tensor(numbers))


def fit(examples: Examples, *, scale: float | None = None) -> PoseRegression:
    """Fit kernel ridge regression in double precision; the kernel's `scale` defaults to the data's."""
    features = describe(examples.pictures)
    if scale is None:
        step = max(1, len(features) // 512)  # the median over a subset is accurate enough
        distances = _squared_distances(features[::step], features)
        scale = BANDWIDTH * max(distances.median().item(), 1e-9)
    targets = _targets(examples.directions)
    kernel = _kernel(features, features, scale)
    kernel.diagonal().add_(RIDGE)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel))
    weights = inverse @ targets

    # The leave-one-object-out residual for the rows B of an object is (inverse_BB)^-1 weights_B: the block
    # form of the leave-one-out residual of ridge regression.
    without = torch.empty_like(targets)
    for number in examples.objects.unique():
        rows = (examples.objects == number).nonzero()[:, 0]
        residual = torch.linalg.solve(inverse[rows][:, rows], weights[rows])
        without[rows] = targets[rows] - residual
    errors = (_angles_deg(without) - _angles_deg(targets) + 180) % 360 - 180
    return PoseRegression(features, weights, scale, errors.abs())


def angles_deg(directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 2"]:
    """Return elevation and azimuth (from x towards y) of directions of any length, in double precision."""
    return _angles_deg(_targets(directions))


def describe(pictures: UInt8[Tensor, "n k k 3"]) -> Float[Tensor, "n f"]:
    """Compute unit-norm histograms of oriented gradients, and the outline, in double precision.

    Votes are the square roots of gradient magnitudes, split linearly between the two nearest orientations.
    """
    return torch.cat([_describe(part) for part in pictures.split(256)])


def _describe(pictures: UInt8[Tensor, "n k k 3"]) -> Float[Tensor, "n f"]:
    grey = pictures.float().mean(dim=-1) / 255
    down, right = torch.gradient(grey, dim=(1, 2))
    strength = torch.hypot(right, down).sqrt()
    place = torch.atan2(down, right) % math.pi / math.pi * ORIENTATIONS
    half, cell = ORIENTATIONS / 2, SIDE // CELLS
    histograms = []
    for bin in range(ORIENTATIONS):
        apart = ((place - bin + half) % ORIENTATIONS - half).abs()
        histograms.append(F.avg_pool2d((1 - apart).clamp_min(0) * strength, cell).flatten(1))
    gradients = F.normalize(torch.cat(histograms, dim=1).double(), dim=1)
    outline = F.avg_pool2d((pictures.amin(dim=-1) < WHITE).float(), SIDE // OUTLINE).flatten(1)
    return torch.cat([gradients, OUTLINE_WEIGHT * outline.double()], dim=1)


def _small(picture: UInt8[Tensor, "_ _ 3"]) -> UInt8[Tensor, "_ _ 3"]:
    return resize_area(picture, SIDE, SIDE)


def _targets(directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Return directions and their distances from the z axis, which determine both angles smoothly."""
    directions = directions.double()
    return torch.cat([directions, directions[:, :2].norm(dim=-1, keepdim=True)], dim=-1)


def _angles_deg(targets: Float[Tensor, "n 4"]) -> Float[Tensor, "n 2"]:
    """Return elevation and azimuth; lengths do not matter."""
    x, y, z, across = targets.unbind(-1)
    return torch.rad2deg(torch.stack([torch.atan2(z, across.clamp_min(0)), torch.atan2(y, x)], dim=-1))


def _kernel(first: Float[Tensor, "m f"], second: Float[Tensor, "n f"], scale: float) -> Float[Tensor, "m n"]:
    """Gaussian kernel plus a constant, which models the mean."""
    return (-_squared_distances(first, second) / scale).exp() + 1


def _squared_distances(first: Float[Tensor, "m f"], second: Float[Tensor, "n f"]) -> Float[Tensor, "m n"]:
    squares = (first**2).sum(dim=1)[:, None] + (second**2).sum(dim=1) - 2 * first @ second.T
    return squares.clamp_min(0)
