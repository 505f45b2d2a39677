"""The field's MLP on the CPU, with a manual gradient and few passes over memory.

Samples are processed in groups whose hidden layer fits in the L2 cache. Axes: p samples, c feature, f latent
channel; i hidden unit.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nerf.field import RadianceField

GROUP = 2**18  # hidden activations per group; one megabyte
STEEPEST = 80.0  # exp is finite in float32 below this


@dataclass(frozen=True)
class Layers:
    """Weights and biases of the field's two layers, or their gradients."""

    hidden: Float[Tensor, "i c"]
    hidden_bias: Float[Tensor, "i"]
    output: Float[Tensor, "o i"]  # o = 1 + f: density first
    output_bias: Float[Tensor, "o"]

    @staticmethod
    def of(field: RadianceField) -> "Layers":
        """Return the layers of a field."""
        return Layers(field.hidden.weight, field.hidden.bias, field.output.weight, field.output.bias)

    @cached_property
    def reach(self) -> tuple[float, float]:
        """Bound of the hidden units: factor of the largest feature, and bias."""
        return self.hidden.abs().sum(dim=1).max().item(), self.hidden_bias.max().item()

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return all four tensors, in the order of the fields."""
        return self.hidden, self.hidden_bias, self.output, self.output_bias


def forward(
    features: Float[Tensor, "p c"], layers: Layers
) -> tuple[Float[Tensor, "p"], Float[Tensor, "p f"]]:
    """Return the logits of density and latent colour."""
    density = features.new_empty(len(features))
    colour = features.new_empty(len(features), len(layers.output_bias) - 1)
    softplus_ = _softplus_ if _is_moderate(features, layers) else _safe_softplus_
    entry, room = layers.hidden.t().contiguous(), _room(features, layers)
    to_density, to_colour = layers.output[0], layers.output[1:].t().contiguous()
    parts = (tensor.split(len(room)) for tensor in (features, density, colour))
    for rows, density_rows, colour_rows in zip(*parts, strict=True):
        hidden = softplus_(_hidden(rows, entry, layers.hidden_bias, room))
        torch.mv(hidden, to_density, out=density_rows)
        torch.mm(hidden, to_colour, out=colour_rows)
    return density.add_(layers.output_bias[0]), colour.add_(layers.output_bias[1:])


def backward(
    features: Float[Tensor, "p c"],
    layers: Layers,
    density: Float[Tensor, "p"],
    colour: Float[Tensor, "p f"],
    sums: Layers,
) -> Float[Tensor, "p c"]:
    """Return the gradient of the features from those of the logits, `density` and `colour`; gradients of the
    layers are added to `sums`.
    """
    found, of_output = torch.empty_like(features), torch.cat([density[:, None], colour], dim=1)
    moderate = _is_moderate(features, layers)
    entry, rooms = layers.hidden.t().contiguous(), [_room(features, layers) for _ in range(3)]
    parts = (tensor.split(len(rooms[0])) for tensor in (features, of_output, found))
    for entering, leaving, change in zip(*parts, strict=True):
        hidden = _hidden(entering, entry, layers.hidden_bias, rooms[0])
        other, of_hidden = (room[: len(hidden)] for room in rooms[1:])
        hidden, slope = (_softplus_and_slope if moderate else _safe_softplus_and_slope)(hidden, other)
        sums.output.addmm_(leaving.t(), hidden)
        torch.mm(leaving, layers.output, out=of_hidden).mul_(slope)
        sums.hidden.addmm_(of_hidden.t(), entering)
        sums.hidden_bias.add_(of_hidden.sum(dim=0))
        torch.mm(of_hidden, layers.hidden, out=change)
    sums.output_bias.add_(of_output.sum(dim=0))
    return found


def _room(features: Tensor, layers: Layers) -> Float[Tensor, "g i"]:
    """Allocate a buffer for the hidden layer of one group."""
    num_units = len(layers.hidden)
    return features.new_empty(max(1, GROUP // num_units), num_units)


def _hidden(
    features: Float[Tensor, "p c"],
    weight: Float[Tensor, "c i"],
    bias: Float[Tensor, "i"],
    room: Float[Tensor, "g i"],
) -> Float[Tensor, "p i"]:
    """Compute hidden pre-activations in the buffer `room`: allocating would cost more than the product."""
    # Faster than `addmm`, which first broadcasts the bias.
    return torch.mm(features, weight, out=room[: len(features)]).add_(bias)


def _softplus_(hidden: Tensor) -> Tensor:
    """Compute log(1 + exp x) in place for x below `STEEPEST`, in three passes; torch's takes twice the time.

    For very negative x the absolute error is that of rounding 1.
    """
    return hidden.exp_().add_(1).log_()


def _safe_softplus_(hidden: Tensor) -> Tensor:
    return hidden.copy_(F.softplus(hidden))


def _softplus_and_slope(hidden: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    """Compute softplus and its derivative, exp x / (1 + exp x), in place of the two buffers."""
    power = hidden.exp_()
    above = torch.add(power, 1, out=room)
    slope = power.div_(above)
    return above.log_(), slope


def _safe_softplus_and_slope(hidden: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    return room.copy_(F.softplus(hidden)), hidden.sigmoid_()


def _is_moderate(features: Float[Tensor, "p c"], layers: Layers) -> bool:
    """Whether all hidden units are below `STEEPEST`, by a bound from the largest feature and the weights."""
    if not len(features):
        return True
    factor, bias = layers.reach
    lowest, highest = features.aminmax()
    return factor * max(-lowest.item(), highest.item()) + bias < STEEPEST
