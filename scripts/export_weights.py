"""Export the EMA weights of a run to a small file, for sampling, evaluation and initialising other runs."""

import argparse
import sys
from pathlib import Path

from scripts.common.command_line import OneLineParser

HELP = """\
examples:
  python -m scripts.export_weights runs/recipe_shapes pretrained/shapes.safetensors
  python sample_views.py --transfer pretrained/shapes.safetensors --data data/embedded

The file has weights and config, but no optimiser state, so it cannot resume its run. Weights are stored in
bfloat16 (the range of float32, with 8 instead of 24 significant bits), without visible effect on images;
--full keeps float32.

Exit codes: 0 done, 2 bad input.
"""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and export; user errors become one line and exit code 2."""
    parser = OneLineParser(
        prog="python -m scripts.export_weights",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("input", type=Path, metavar="RUN", help="run, recipe or checkpoint")
    parser.add_argument("output", type=Path, metavar="FILE", help="FILE.safetensors")
    parser.add_argument("--full", action="store_true", help="keep float32")
    arguments = parser.parse_args(argv)
    try:
        print(export(arguments.input, arguments.output, half=not arguments.full))
    except (ValueError, OSError) as error:
        print(f"export_weights: {error}", file=sys.stderr)
        return 2
    return 0


def export(run: Path, output: Path, *, half: bool = True) -> str:
    """Write EMA weights and config to a file; returns a message for the user."""
    from models.base import own_state
    from models.checkpoints.format import Checkpoint, find_checkpoint, write_checkpoint
    from models.checkpoints.loading import load_model

    if output.suffix != ".safetensors":
        raise ValueError(f"{output}: does not end in .safetensors; rename it")
    source = find_checkpoint(run)
    if output.exists() and output.samefile(source):
        raise ValueError(f"{output}: is the checkpoint itself; give another output")
    model, config, step = load_model(source)
    tensors = {f"model.{name}": value for name, value in own_state(model).items()}
    write_checkpoint(Checkpoint(output, step, config.model_dump(mode="json"), tensors), half=half)
    before, after = (path.stat().st_size / 2**20 for path in (source, output))
    return f"written: {output}, {after:.1f} MiB (step {step} of {source}, {before:.1f} MiB)"


if __name__ == "__main__":
    sys.exit(main())
