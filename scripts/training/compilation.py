"""Compile a run's networks, and choose the folder of torch's compile cache."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from config.run import RunConfig
    from models.base import NVSModel
    from models.training.distributed import Workers

CACHE = "TORCHINDUCTOR_CACHE_DIR"  # the folder of torch's compile cache


def keep_compiled(stages: "Sequence[RunConfig]") -> None:
    """Put the compile cache into the folder of runs, unless the user chose another place.

    All stages share it, so that a trial compiles for the run itself.
    """
    if not any(stage.train.compile for stage in stages):
        return
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(CACHE, "") in ("", default_cache_dir()):  # torch sets the default itself
        os.environ[CACHE] = str(Path(stages[0].runs, ".compiled").absolute())


def compile_model(model: "NVSModel", workers: "Workers") -> None:
    """Compile the model's networks; a resumed run finds them in the cache."""
    import torch

    from models.device import compile_networks

    torch.compiler.reset()  # otherwise other stages count against torch's limit of recompilations
    if workers.is_main:
        print(
            f"compiling: the first steps take minutes, or less with what is in {os.environ[CACHE]}",
            file=sys.stderr,
        )
    compile_networks(model, workers.device)
