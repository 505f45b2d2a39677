"""Whether the views of an object fit each other, whatever that is measured by, and which ones do not.

A view is its contents (a silhouette or a depth map) and its camera. Contents may be tried with another view's
camera, or turned, to find out what went wrong.
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
MANY = 0.4  # share of views; where more disagree, the object as a whole is at fault
FEW = 0.15  # share of views that may still disagree when the fault of the whole object is undone


@dataclass(frozen=True)
class Verdict:
    """What is wrong with some views. More than two: with the object."""

    kind: Literal["swapped", "inconsistent"] | Turn
    views: tuple[int, ...]


class Agreement(ABC):
    """How far each view is from what the trusted views of the object say."""

    @abstractmethod
    def misfits(self) -> Float[ndarray, "v"]:
        """Of every view with its own camera; below 1 where it fits."""

    @abstractmethod
    def faults(self) -> list[Verdict]:
        """One verdict for every view that does not fit, or for two that have each other's cameras."""

    @abstractmethod
    def radius(self) -> float:
        """How far the object reaches from the world's origin, in scene units."""


# Agreement of views that are all turned alike, by what the trusted ones say.
Build = Callable[[Turn, Bool[ndarray, "v"]], Agreement]


def judge(build: Build, num: int) -> tuple[list[Verdict], Agreement]:
    """What is wrong with which of `num` views, and their agreement as they are."""
    everyone = np.ones(num, bool)
    agreement = build("as it is", everyone)
    faults = agreement.faults()
    if not faults:
        return [], agreement
    suspects = _accused(faults, num)
    if suspects.mean() <= MANY:
        # The views at fault have had their say in what the others are judged by. Once more, without them.
        agreement = build("as it is", ~suspects)
        faults = agreement.faults()
        if _accused(faults, num).mean() <= MANY:
            return faults, agreement
    misfits = {turn: build(turn, everyone).misfits() for turn in TURNS}
    # More than one may pass where the cameras stand in a ring.
    best = min(TURNS, key=lambda turn: float(misfits[turn].mean()))
    kind = best if (misfits[best] > 1).mean() <= FEW else "inconsistent"
    return [Verdict(kind, tuple(range(num)))], agreement


def _accused(faults: list[Verdict], num: int) -> Bool[ndarray, "v"]:
    return np.isin(np.arange(num), [view for verdict in faults for view in verdict.views])
