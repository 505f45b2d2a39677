"""What scripts.evaluate is asked to judge, as values. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.evaluate.protocols import QUICK


@dataclass(frozen=True)
class EvaluateRequest:
    """A model, what it is judged on and how it samples; of shards, the part of this process."""

    checkpoint: str  # run such as runs/NAME, a checkpoint, or published weights
    protocol: str = QUICK
    data: str | None = None  # None: the data set of the training
    split: str | None = None  # None: test; of quick: val
    num_objects: int | None = None  # the first ones; None: all
    num_views: int | None = None  # evenly spaced ones; None: all; of quick: 4
    source_views: tuple[int, ...] | None = None  # instead of the protocol's
    view_list: Path | None = None  # source views of each object
    depth_scale: float | None = None  # as data.depth_scale
    options: dict[str, Any] = field(default_factory=dict)  # changes to the run's sampling options
    seed: int = 0
    num_seeds: int | None = None
    best_of: int | None = None
    batch: int = 4  # views at once
    device: str = "auto"
    output: Path | None = None
    shard: tuple[int, int] | None = None  # part from 0, parts
    merge: bool = False  # draw nothing, write the table

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
                    f"--{given[0]} is not for a quick look; add a --protocol such as srn_cars_1view"
                )
        if self.source_views and self.view_list:
            raise ValueError("--input-view is for all objects and --view-list for each; give only one")
        if self.source_views and len(set(self.source_views)) < len(self.source_views):
            raise ValueError("--input-view names a view twice; name it once")
        if self.merge and self.shard:
            raise ValueError("--merge joins the work of all shards; leave --shard out")
        if self.best_of and self.num_seeds and self.best_of > self.num_seeds:
            raise ValueError(
                f"--best-of {self.best_of} of {self.num_seeds} seeds; give --seeds {self.best_of}"
            )
