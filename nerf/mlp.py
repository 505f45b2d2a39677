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

GROUP = 4096  # samples; 1 MB of a hidden layer of 64 units
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
    for first in range(0, len(features), GROUP):
        group = slice(first, first + GROUP)
        hidden = _hidden(features[group], layers)
        hidden = _softplus_(hidden) if _is_moderate(features[group], layers) else F.softplus(hidden)
        torch.addmv(layers.output_bias[:1], hidden.t(), layers.output[0], out=density[group])
        torch.addmm(layers.output_bias[1:], hidden.t(), layers.output[1:].t(), out=colour[group])
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
    found = torch.empty_like(features)
    for first in range(0, len(features), GROUP):
        group = slice(first, first + GROUP)
        entering, of_output = features[group], torch.cat([density[group, None], colour[group]], dim=1)
        hidden = _hidden(entering, layers)
        if _is_moderate(entering, layers):
            power = hidden.exp_()
            above = power + 1
            slope = power.div_(above)
            hidden = above.log_()
        else:
            slope, hidden = torch.sigmoid(hidden), F.softplus(hidden)
        sums.output.addmm_(of_output.t(), hidden.t())
        sums.output_bias.add_(of_output.sum(dim=0))
        of_hidden = torch.mm(layers.output.t(), of_output.t()).mul_(slope)
        sums.hidden.addmm_(of_hidden, entering)
        sums.hidden_bias.add_(of_hidden.sum(dim=1))
        torch.mm(of_hidden.t(), layers.hidden, out=found[group])
    return found


def _hidden(features: Float[Tensor, "p c"], layers: Layers) -> Float[Tensor, "i p"]:
    """The hidden layer before its softplus; samples are columns, as the products run fastest."""
    return torch.addmm(layers.hidden_bias[:, None], layers.hidden, features.t())


def _softplus_(hidden: Tensor) -> Tensor:
    """log(1 + exp x) in three passes, in place, for x below `STEEPEST`; torch's own takes twice the time.

    Far below zero it is exact to the rounding of 1, not of itself.
    """
    return hidden.exp_().add_(1).log_()


def _is_moderate(features: Tensor, layers: Layers) -> bool:
    """Whether no hidden unit can exceed `STEEPEST`, by the largest feature and weights."""
    if not len(features):
        return True
    largest = features.abs().max() * layers.hidden.abs().sum(dim=1) + layers.hidden_bias
    return bool(largest.max() < STEEPEST)
