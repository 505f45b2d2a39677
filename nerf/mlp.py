"""The field's MLP on the CPU: as few passes over memory as there are, and its gradient by hand.

Samples go through in groups whose hidden layer stays in the second-level cache. Axes: p samples, c feature,
f latent channel; i hidden unit.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nerf.field import RadianceField

GROUP = 8192  # samples; 2 MB of a hidden layer of 64 units
STEEPEST = 80.0  # the exp of less is finite in float32


@dataclass(frozen=True)
class Layers:
    """Weights and biases of the field's two layers, or their gradients."""

    hidden: Float[Tensor, "i c"]
    hidden_bias: Float[Tensor, "i"]
    output: Float[Tensor, "o i"]  # o = 1 + f: density first
    output_bias: Float[Tensor, "o"]

    @staticmethod
    def of(field: RadianceField) -> "Layers":
        """The layers of a field."""
        return Layers(field.hidden.weight, field.hidden.bias, field.output.weight, field.output.bias)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four, in the order of the fields."""
        return self.hidden, self.hidden_bias, self.output, self.output_bias


def forward(
    features: Float[Tensor, "p c"], layers: Layers
) -> tuple[Float[Tensor, "p"], Float[Tensor, "p f"]]:
    """Logits of density and of latent colour."""
    density = features.new_empty(len(features))
    colour = features.new_empty(len(features), len(layers.output_bias) - 1)
    softplus = _softplus_ if _is_moderate(features, layers) else F.softplus
    to_density, to_colour = layers.output[0], layers.output[1:].t()
    of_density, of_colour = layers.output_bias[:1], layers.output_bias[1:]
    parts = (tensor.split(GROUP) for tensor in (features, density, colour))
    for entering, thickness, shade in zip(*parts, strict=True):
        hidden = softplus(_hidden(entering, layers)).t()
        torch.addmv(of_density, hidden, to_density, out=thickness)
        torch.addmm(of_colour, hidden, to_colour, out=shade)
    return density, colour


def backward(
    features: Float[Tensor, "p c"],
    layers: Layers,
    density: Float[Tensor, "p"],
    colour: Float[Tensor, "p f"],
    sums: Layers,
) -> Float[Tensor, "p c"]:
    """Gradient of the features from those of the logits, `density` and `colour`; the layers' are added to
    `sums`."""
    found, of_output = torch.empty_like(features), torch.cat([density[:, None], colour], dim=1)
    activate = _softplus_and_slope_ if _is_moderate(features, layers) else _safe_softplus_and_slope
    parts = (tensor.split(GROUP) for tensor in (features, of_output, found))
    for entering, leaving, change in zip(*parts, strict=True):
        hidden, slope = activate(_hidden(entering, layers))
        sums.output.addmm_(leaving.t(), hidden.t())
        of_hidden = torch.mm(layers.output.t(), leaving.t()).mul_(slope)
        sums.hidden.addmm_(of_hidden, entering)
        sums.hidden_bias.add_(of_hidden.sum(dim=1))
        torch.mm(of_hidden.t(), layers.hidden, out=change)
    sums.output_bias.add_(of_output.sum(dim=0))
    return found


def _hidden(features: Float[Tensor, "p c"], layers: Layers) -> Float[Tensor, "i p"]:
    """The hidden layer before its softplus; samples are columns, as the products run fastest."""
    return torch.addmm(layers.hidden_bias[:, None], layers.hidden, features.t())


def _softplus_(hidden: Tensor) -> Tensor:
    """log(1 + exp x) in three passes, in place, for x below `STEEPEST`; torch's own takes twice the time.

    Far below zero it is exact to the rounding of 1, not of itself.
    """
    return hidden.exp_().add_(1).log_()


def _softplus_and_slope_(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The same and its derivative, which is exp x / (1 + exp x)."""
    power = hidden.exp_()
    above = power + 1
    slope = power.div_(above)
    return above.log_(), slope


def _safe_softplus_and_slope(hidden: Tensor) -> tuple[Tensor, Tensor]:
    return F.softplus(hidden), torch.sigmoid(hidden)


def _is_moderate(features: Float[Tensor, "p c"], layers: Layers) -> bool:
    """Whether no hidden unit can exceed `STEEPEST`, by the largest feature and the weights."""
    if not len(features):
        return True
    lowest, highest = features.aminmax()
    largest = torch.maximum(-lowest, highest) * layers.hidden.abs().sum(dim=1) + layers.hidden_bias
    return bool(largest.max() < STEEPEST)
