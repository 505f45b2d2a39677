"""Find the views of an object that are inconsistent with the others, by any measure of agreement.

A view is its contents (a silhouette or a depth map) and its camera. To diagnose a fault, contents are tried
with another view's camera, or flipped.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

Turn = Literal["as it is", "mirrored", "upside down", "turned round"]
TURNS: tuple[Turn, ...] = ("mirrored", "upside down", "turned round")
MANY = 0.4  # fraction of views; if more disagree, the whole object is at fault
FEW = 0.15  # fraction of views that may still disagree once a fault of the whole object is undone


@dataclass(frozen=True)
class Verdict:
    """What is wrong with one or two views, or with the whole object if there are more."""

    kind: Literal["swapped", "inconsistent"] | Turn
    views: tuple[int, ...]


class Agreement(ABC):
    """How well each view agrees with the trusted views of the object."""

    @abstractmethod
    def misfits(self) -> Float[ndarray, "v"]:
        """The misfit of every view with its own camera; below 1 if it fits."""

    @abstractmethod
    def faults(self) -> list[Verdict]:
        """Return a verdict for every view that does not fit, or for each pair of swapped views."""

    @abstractmethod
    def radius(self) -> float:
        """The object's radius around the world origin, in scene units."""


# Builds the agreement of views that are all flipped alike, based on the trusted ones.
Build = Callable[[Turn, Bool[ndarray, "v"]], Agreement]


def judge(build: Build, num: int) -> tuple[list[Verdict], Agreement]:
    """Return what is wrong with which of `num` views, and their agreement as they are."""
    everyone = np.ones(num, bool)
    agreement = build("as it is", everyone)
    faults = agreement.faults()
    if not faults:
        return [], agreement
    suspects = _accused(faults, num)
    if suspects.mean() <= MANY:
        # The reference included the faulty views. Repeat without them.
        agreement = build("as it is", ~suspects)
        faults = agreement.faults()
        if _accused(faults, num).mean() <= MANY:
            return faults, agreement
    misfits = {turn: build(turn, everyone).misfits() for turn in TURNS}
    # More than one may pass if the cameras form a ring.
    best = min(TURNS, key=lambda turn: float(misfits[turn].mean()))
    kind = best if (misfits[best] > 1).mean() <= FEW else "inconsistent"
    return [Verdict(kind, tuple(range(num)))], agreement


def _accused(faults: list[Verdict], num: int) -> Bool[ndarray, "v"]:
    return np.isin(np.arange(num), [view for verdict in faults for view in verdict.views])
