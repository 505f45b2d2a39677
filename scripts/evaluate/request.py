"""The request of scripts.evaluate. Imports nothing slow."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.evaluate.protocols import PROTOCOLS, QUICK


@dataclass(frozen=True)
class EvaluateRequest:
    """A model, the evaluation data, the sampling options, and the shard of this process."""

    checkpoint: str  # run such as runs/NAME, a checkpoint, or published weights
    protocol: str = QUICK
    data: str | None = None  # default: the training data
    split: str | None = None  # default: test; with quick: val
    num_objects: int | None = None  # the first ones; default: all
    num_views: int | None = None  # evenly spaced ones; default: all; with quick: 4
    source_views: tuple[int, ...] | None = None  # instead of the protocol's
    view_list: Path | None = None  # source views of each object
    depth_scale: float | None = None  # like data.depth_scale
    view_choices: tuple[str, ...] | None = None  # of DTU, the first in the main table; default: all
    antialias: bool = False  # of the resizing of pictures that are measured with masks
    missing_masks: str | None = None  # like data.dtu.missing_masks
    options: dict[str, Any] = field(default_factory=dict)  # overrides of the run's sampling options
    seed: int = 0
    num_seeds: int | None = None
    best_of: int | None = None
    batch: int = 4  # views per batch
    device: str = "auto"
    output: Path | None = None
    shard: tuple[int, int] | None = None  # part from 0, number of parts
    merge: bool = False  # sample nothing, write the table

    def __post_init__(self):
        if self.protocol == QUICK:
            of_protocols = {
                "input-view": self.source_views,
                "view-list": self.view_list,
                **self.options,
                "seeds": self.num_seeds,
                "best-of": self.best_of,
                "shard": self.shard,
                "merge": self.merge or None,
            }
            given = [flag for flag, value in of_protocols.items() if value is not None]
            if given:
                raise ValueError(
                    f"--{given[0]} is not for --protocol quick; add a --protocol such as srn_cars_1view"
                )
        of_masks = {
            "view-choice": self.view_choices,
            "antialias": self.antialias or None,
            "missing-masks": self.missing_masks,
        }
        given = [flag for flag, value in of_masks.items() if value is not None]
        if given and (self.protocol == QUICK or not PROTOCOLS[self.protocol].masked):
            raise ValueError(f"--{given[0]} is for protocols of DTU; add --protocol dtu_3view, or another")
        if self.view_choices and len(set(self.view_choices)) < len(self.view_choices):
            raise ValueError("--view-choice has a choice twice; give it once")
        if self.source_views and self.view_list:
            raise ValueError("--input-view is for all objects and --view-list for each; give only one")
        if self.source_views and len(set(self.source_views)) < len(self.source_views):
            raise ValueError("--input-view has a view twice; give it once")
        if self.merge and self.shard:
            raise ValueError("--merge joins the work of all shards; leave --shard out")
        if self.best_of and self.num_seeds and self.best_of > self.num_seeds:
            raise ValueError(f"--best-of {self.best_of} needs as many seeds; give --seeds {self.best_of}")
