"""The field's MLP on the CPU: as few passes over memory as there are, and its gradient by hand.

Samples go through in groups whose hidden layer stays in the second-level cache. Axes: p samples, c feature,
f latent channel; i hidden unit.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nerf.field import RadianceField

GROUP = 4096  # samples; 2 MB of a hidden layer of 64 units
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

    @cached_property
    def reach(self) -> tuple[float, float]:
        """How far hidden units can go: this factor times the largest feature, plus this bias."""
        return self.hidden.abs().sum(dim=1).max().item(), self.hidden_bias.max().item()

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four, in the order of the fields."""
        return self.hidden, self.hidden_bias, self.output, self.output_bias


def forward(
    features: Float[Tensor, "p c"], layers: Layers
) -> tuple[Float[Tensor, "p"], Float[Tensor, "p f"]]:
    """Logits of density and of latent colour."""
    density = features.new_empty(len(features))
    colour = features.new_empty(len(features), len(layers.output_bias) - 1)
    softplus_ = _softplus_ if _is_moderate(features, layers) else _safe_softplus_
    to_density, to_colour = layers.output[0], layers.output[1:].t()
    of_density, of_colour = layers.output_bias[:1], layers.output_bias[1:]
    room = features.new_empty(len(layers.hidden) * GROUP)
    parts = (tensor.split(GROUP) for tensor in (features, density, colour))
    for entering, thickness, shade in zip(*parts, strict=True):
        hidden = softplus_(_hidden(entering, layers, room)).t()
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
    moderate = _is_moderate(features, layers)
    rooms = features.new_empty(3, len(layers.hidden) * GROUP)
    parts = (tensor.split(GROUP) for tensor in (features, of_output, found))
    for entering, leaving, change in zip(*parts, strict=True):
        hidden = _hidden(entering, layers, rooms[0])
        other, of_hidden = (room[: hidden.numel()].view_as(hidden) for room in rooms[1:])
        hidden, slope = (_softplus_and_slope if moderate else _safe_softplus_and_slope)(hidden, other)
        sums.output.addmm_(leaving.t(), hidden.t())
        torch.mm(layers.output.t(), leaving.t(), out=of_hidden).mul_(slope)
        sums.hidden.addmm_(of_hidden, entering)
        sums.hidden_bias.add_(of_hidden.sum(dim=1))
        torch.mm(of_hidden.t(), layers.hidden, out=change)
    sums.output_bias.add_(of_output.sum(dim=0))
    return found


def _hidden(features: Float[Tensor, "p c"], layers: Layers, room: Float[Tensor, "m"]) -> Float[Tensor, "i p"]:
    """The hidden layer before its softplus, in the memory of `room`; samples are columns, as the products run
    fastest. New memory for each group would cost more than the product."""
    hidden = room[: len(layers.hidden) * len(features)].view(len(layers.hidden), len(features))
    # Twice as fast as `addmm`, which first writes the bias everywhere.
    return torch.mm(layers.hidden, features.t(), out=hidden).add_(layers.hidden_bias[:, None])


def _softplus_(hidden: Tensor) -> Tensor:
    """log(1 + exp x) in three passes, in place, for x below `STEEPEST`; torch's own takes twice the time.

    Far below zero it is exact to the rounding of 1, not of itself.
    """
    return hidden.exp_().add_(1).log_()


def _safe_softplus_(hidden: Tensor) -> Tensor:
    return hidden.copy_(F.softplus(hidden))


def _softplus_and_slope(hidden: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    """The same and its derivative, exp x / (1 + exp x), in the memory of both."""
    power = hidden.exp_()
    above = torch.add(power, 1, out=room)
    slope = power.div_(above)
    return above.log_(), slope


def _safe_softplus_and_slope(hidden: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    return room.copy_(F.softplus(hidden)), hidden.sigmoid_()


def _is_moderate(features: Float[Tensor, "p c"], layers: Layers) -> bool:
    """Whether no hidden unit can exceed `STEEPEST`, by the largest feature and the weights."""
    if not len(features):
        return True
    factor, bias = layers.reach
    lowest, highest = features.aminmax()
    return factor * max(-lowest.item(), highest.item()) + bias < STEEPEST
