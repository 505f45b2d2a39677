"""Batches of views of scenes, as passed from the loader to a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from data.cameras.pinhole import Cameras


@runtime_checkable
class Applicable(Protocol):
    """A collection of tensors, such as cameras, views or volumes."""

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Applicable":
        """Return a copy with `function` applied to every tensor, always in the same order."""


Together = TypeVar("Together", bound=Applicable)


@dataclass(frozen=True)
class Geometry:
    """Ground-truth geometry per pixel."""

    depth: Float[Tensor, "*batch h w"]  # z-depth in scene units; 0 for background
    alpha: Float[Tensor, "*batch h w"]  # pixel coverage, 0 to 1

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Geometry":
        """Return a copy with `function` applied to both tensors."""
        return Geometry(function(self.depth), function(self.alpha))


@dataclass(frozen=True)
class Views:
    """Pictures with their cameras, if these are known. `valid` marks views that are no padding."""

    images: Float[Tensor, "b v 3 h w"]  # RGB in [-1, 1], white background
    cameras: Cameras | None  # batch shape [b, v]; None: not known, as of video
    valid: Bool[Tensor, "b v"]
    geometry: Geometry | None = None  # batch shape [b, v]; None if unknown or not requested
    # World to pixels as in the set's calibration files, before any change of the world; None if it has none.
    projection: Float64[Tensor, "b v 3 4"] | None = None

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Views":
        """Return the views with `function` applied to every tensor (a slice, a move to a device)."""
        geometry = self.geometry and self.geometry.apply(function)
        cameras = self.cameras and self.cameras.apply(function)
        projection = None if self.projection is None else function(self.projection)
        return Views(function(self.images), cameras, function(self.valid), geometry, projection)

    def to(self, device: torch.device | str) -> "Views":
        """Return the views on a device."""
        return self.apply(lambda tensor: tensor.to(device))


@dataclass(frozen=True)
class SceneBatch:
    """A training batch: source views as input, target views as output."""

    source: Views
    target: Views  # without padding
    scene_ids: tuple[str, ...]
    seeds: Int[Tensor, "b"]  # on the CPU; determines all randomness of a scene
    # `valid_indices` of the sources, if known; on the CPU to avoid synchronisation with a GPU.
    source_indices: Int[Tensor, "k"] | None = None
    # A line for each file that could not be used, so that its scene was replaced.
    damage: tuple[str, ...] = ()

    def apply(self, function: Callable[[Tensor], Tensor]) -> "SceneBatch":
        """Return the batch with `function` applied to the tensors of its views."""
        return replace(self, source=self.source.apply(function), target=self.target.apply(function))

    def pin_memory(self) -> "SceneBatch":
        """Return the batch in pinned memory; torch's DataLoader calls this."""
        return self.apply(Tensor.pin_memory)


def all_valid(images: Float[Tensor, "b v 3 h w"], cameras: Cameras | None) -> Views:
    """Views without padding."""
    return Views(images, cameras, torch.ones(images.shape[:2], dtype=torch.bool, device=images.device))


def valid_indices(valid: Bool[Tensor, "b v"]) -> Int[Tensor, "k"]:
    """Return the flat indices of valid views over all scenes. Synchronises if the mask is on a GPU."""
    return valid.flatten().nonzero()[:, 0]


def concatenate(parts: Sequence[Together], axis: int) -> Together:
    """Concatenate cameras, views or anything else with `apply` along an axis of all their tensors."""
    collected: list[list[Tensor]] = []
    for part in parts:
        tensors: list[Tensor] = []
        part.apply(lambda tensor, tensors=tensors: tensors.append(tensor) or tensor)
        collected.append(tensors)
    columns = zip(*collected, strict=True)
    return parts[0].apply(lambda _: torch.cat(next(columns), dim=axis))
