"""What ViewFusion makes of several views: passes of those that exist, and their composition.

Weights are a softmax over the views, for each pixel and colour channel on its own (Spiegl et al. 2024,
section 3.2). Axes: n target images, of any number of scenes; s source view; p passes, one for each view of
each target that exists.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Composition:
    """What all views suggest together, noise or velocity, and by which weights."""

    prediction: Float[Tensor, "n 3 h w"]
    weights: (
        Float[Tensor, "n s 3 h w"] | None
    )  # 0 to 1, sum 1 over s; 0 for missing views; None for a plain mean


@dataclass(frozen=True)
class Passes:
    """Which view of which target each pass of the network sees."""

    target: Int[Tensor, "p"]  # 0 to n - 1
    view: Int[Tensor, "p"]  # 0 to s - 1
    shape: tuple[int, int]  # (n, s)

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Passes":
        """The same with `function` applied to both tensors."""
        return Passes(function(self.target), function(self.view), self.shape)


def passes_of(valid: Bool[Tensor, "n s"]) -> Passes:
    """A pass for every view that exists. Raises ValueError where a target has none."""
    if not bool(valid.any(dim=1).all()):
        empty = int((~valid.any(dim=1)).nonzero()[0, 0])
        raise ValueError(f"target {empty} has no source view; give every scene at least one")
    target, view = valid.nonzero(as_tuple=True)
    return Passes(target, view, (valid.shape[0], valid.shape[1]))


def passes_of_scenes(source_indices: Int[Tensor, "k"], num_views: int, num_targets: int, num: int) -> Passes:
    """The same for `num` scenes with `num_targets` targets each, whose views `valid_indices` counts.

    They stay on the CPU, like the indices, so that the host does not wait for a GPU.
    """
    scene, view = source_indices // num_views, source_indices % num_views
    if len(scene.unique()) < num:
        raise ValueError("a scene has no source view; give every scene at least one")
    target = scene[:, None] * num_targets + torch.arange(num_targets)
    return Passes(target.flatten(), view.repeat_interleave(num_targets), (num * num_targets, num_views))


def valid_of(view_count: Int[Tensor, "n"], num_views: int) -> Bool[Tensor, "n s"]:
    """Marks the first `view_count` of `num_views` views. Raises ValueError where that is not possible."""
    if bool(((view_count < 1) | (view_count > num_views)).any()):
        raise ValueError(f"view_count {view_count.tolist()}: every scene needs 1 to {num_views} views")
    return torch.arange(num_views, device=view_count.device) < view_count[:, None]


def compose(outputs: Float[Tensor, "p c h w"], passes: Passes, *, weighted: bool) -> Composition:
    """Compose all passes, in float32.

    Channels 0 to 2 are noise or velocity, 3 to 5 the logits of weights if `weighted`.
    """
    outputs = outputs.float()
    suggested = _unpacked(outputs[:, :3], passes, 0.0)
    if not weighted:
        counts = torch.bincount(passes.target, minlength=passes.shape[0]).to(suggested)
        return Composition(suggested.sum(dim=1) / counts[:, None, None, None], None)
    weights = _unpacked(outputs[:, 3:], passes, -torch.inf).softmax(dim=1)
    return Composition((weights * suggested).sum(dim=1), weights)


def _unpacked(values: Float[Tensor, "p 3 h w"], passes: Passes, filler: float) -> Tensor:
    """[n s 3 h w], with `filler` where there was no pass."""
    padded = values.new_full((*passes.shape, *values.shape[1:]), filler)
    return padded.index_put((passes.target, passes.view), values)
