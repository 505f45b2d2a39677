"""The objective of transferable poses (section 3): half 0 is rendered with the pose estimated from half 1.

The two halves share no pixel, so a pose cannot encode the view's appearance. Axes: b scene, s given view.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from models.xfactor.config import LossConfig
from models.xfactor.masks import PATTERNS


@dataclass(frozen=True)
class Draws:
    """Random choices for each scene of a batch, on the CPU, so that the host does not wait for a GPU."""

    masked: tuple[int, ...]  # scenes whose patches are halved
    whole: tuple[int, ...]  # the others
    patterns: Int[Tensor, "b"]  # of `PATTERNS`
    targets: tuple[int, ...]  # the given view that takes the place of the target; -1: none
    generators: tuple[torch.Generator, ...]  # one for each scene, for what comes after


def draw_choices(seeds: Int[Tensor, "b"], valid: list[list[int]], config: LossConfig) -> Draws:
    """Masks and replaced targets; all of a scene follows from its seed. `valid`: given views of each."""
    generators = tuple(torch.Generator().manual_seed(int(seed)) for seed in seeds)
    masked: list[int] = []
    patterns, targets = [], []
    for scene, generator in enumerate(generators):
        chance = torch.rand(2, generator=generator)
        if chance[0] >= config.unmasked_prob:
            masked.append(scene)
        patterns.append(int(torch.randint(len(PATTERNS), (), generator=generator)))
        given = valid[scene]
        place = int(torch.randint(len(given), (), generator=generator))
        targets.append(given[place] if chance[1] < config.reference_target_prob else -1)
    whole = tuple(scene for scene in range(len(generators)) if scene not in masked)
    return Draws(tuple(masked), whole, torch.tensor(patterns), tuple(targets), generators)
