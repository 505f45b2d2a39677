"""What travels from the loader to a model: views of scenes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data.cameras.pinhole import Cameras


@runtime_checkable
class Applicable(Protocol):
    """Tensors that travel together, such as cameras, views or volumes."""

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Applicable":
        """The same with `function` applied to every tensor, always in the same order."""


Together = TypeVar("Together", bound=Applicable)


@dataclass(frozen=True)
class Geometry:
    """What a set knows of the objects' surfaces, pixel by pixel."""

    depth: Float[Tensor, "*batch h w"]  # scene units along the optical axis; 0 where nothing is
    alpha: Float[Tensor, "*batch h w"]  # share of the pixel that the object covers, 0 to 1

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Geometry":
        """The same with `function` applied to both tensors."""
        return Geometry(function(self.depth), function(self.alpha))


@dataclass(frozen=True)
class Views:
    """Pictures with their cameras, if these are known. `valid` marks views that are no padding."""

    images: Float[Tensor, "b v 3 h w"]  # RGB in [-1, 1], white background
    cameras: Cameras | None  # batch shape [b, v]; None: not known, as of video
    valid: Bool[Tensor, "b v"]
    geometry: Geometry | None = None  # batch shape [b, v]; None: not known, or not asked for

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Views":
        """The same views with `function` applied to every tensor (a slice, a move to a device)."""
        geometry = self.geometry and self.geometry.apply(function)
        cameras = self.cameras and self.cameras.apply(function)
        return Views(function(self.images), cameras, function(self.valid), geometry)

    def to(self, device: torch.device | str) -> "Views":
        """The same views on a device."""
        return self.apply(lambda tensor: tensor.to(device))


@dataclass(frozen=True)
class SceneBatch:
    """Training material: what the model may look at, and what it should draw."""

    source: Views
    target: Views  # without padding
    scene_ids: tuple[str, ...]
    seeds: Int[Tensor, "b"]  # on the CPU; all that is drawn at random for a scene follows from its seed
    # `valid_indices` of the sources, if known; on the CPU, so that no host waits for a GPU to learn them.
    source_indices: Int[Tensor, "k"] | None = None
    # Files that could not be used, so that other scenes are here than belong here: a line for each attempt.
    damage: tuple[str, ...] = ()

    def apply(self, function: Callable[[Tensor], Tensor]) -> "SceneBatch":
        """The same batch with `function` applied to the tensors of its views."""
        return replace(self, source=self.source.apply(function), target=self.target.apply(function))

    def pin_memory(self) -> "SceneBatch":
        """The same batch in memory that a GPU reads without the host; torch's DataLoader calls this."""
        return self.apply(Tensor.pin_memory)


def all_valid(images: Float[Tensor, "b v 3 h w"], cameras: Cameras | None) -> Views:
    """Views without padding."""
    return Views(images, cameras, torch.ones(images.shape[:2], dtype=torch.bool, device=images.device))


def valid_indices(valid: Bool[Tensor, "b v"]) -> Int[Tensor, "k"]:
    """Which views are no padding, counted through all scenes. Of a mask on a GPU, the host waits for it."""
    return valid.flatten().nonzero()[:, 0]


def concatenate(parts: Sequence[Together], axis: int) -> Together:
    """Cameras, views or whatever else has `apply`, joined along an axis that all their tensors have."""
    collected: list[list[Tensor]] = []
    for part in parts:
        tensors: list[Tensor] = []
        part.apply(lambda tensor, tensors=tensors: tensors.append(tensor) or tensor)
        collected.append(tensors)
    columns = zip(*collected, strict=True)
    return parts[0].apply(lambda _: torch.cat(next(columns), dim=axis))
