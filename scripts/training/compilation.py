"""Compiling a run's networks, and where torch keeps what that yields."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from config.run import RunConfig
    from models.base import NVSModel
    from models.training.distributed import Workers

CACHE = "TORCHINDUCTOR_CACHE_DIR"  # where torch keeps what it has compiled


def keep_compiled(stages: "Sequence[RunConfig]") -> None:
    """Have torch keep what it compiles among the runs, unless the user chose a place.

    Once for all stages, because what a trial compiles is for the run itself, too.
    """
    if not any(stage.train.compile for stage in stages):
        return
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(CACHE, "") in ("", default_cache_dir()):  # torch sets the default itself
        os.environ[CACHE] = str(Path(stages[0].runs, ".compiled").absolute())


def compile_model(model: "NVSModel", workers: "Workers") -> None:
    """Compile the model's networks; what that yields is kept among the runs, so that a resumed run has it."""
    import torch

    from models.device import compile_networks

    torch.compiler.reset()  # what other stages compiled counts against a limit, beyond which nothing is
    if workers.is_main:
        print(
            f"compiling: the first steps take minutes, or less with what is in {os.environ[CACHE]}",
            file=sys.stderr,
        )
    compile_networks(model, workers.device)
