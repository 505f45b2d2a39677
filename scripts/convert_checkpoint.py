"""Convert published weights (genvs.pt, genvs_control.pt) to a checkpoint or run, or vice versa.

Weights of XFactor are converted to published ones alone (FILE.npz); published ones open wherever a
checkpoint does.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.command_line import OneLineParser

if TYPE_CHECKING:  # heavy modules are imported where they are used, so that --help is fast
    from config.run import RunConfig

HELP = """\
examples:
  python -m scripts.convert_checkpoint genvs.pt runs/published
  python -m scripts.convert_checkpoint genvs.pt published.safetensors
  python -m scripts.convert_checkpoint genvs_64.pt runs/published_64 --config my_64.json
  python -m scripts.convert_checkpoint genvs_control.pt runs/published_control
  python -m scripts.convert_checkpoint --to-published runs/srn_cars_128 genvs_mine.pt
  python -m scripts.convert_checkpoint --to-published runs/xfactor_shapes xfactor_mine.npz

The published format is that of the earlier open implementation: a file of torch.save with the entries model,
optim, step and epoch. Reading it executes no code. The denoiser, which it stores under two names, may be
present under either or both; names may begin with "module."; all entries but the weights are optional.

A conversion keeps the optimiser's state, so that training can be resumed, and --to-published restores the
original file's values bit for bit. sample_views.py --transfer and train.py transfer= also accept genvs.pt
directly; a conversion saves them from converting it each time.

Files with a ControlNet (sd_pipeline.*) become models of the family controlnet, on the base that their config
names. Their optimiser and the weights of the base are left out, in both directions.

Weights depend on a config; for example, the published code samples its volumes at other positions than the
paper. config/srn_cars_128_published.json and, with a ControlNet,
config/controlnet_srn_cars_published.json match the published weights. Weights of another config can be
written to the published format, but the published code will not compute the same results.

Exit codes: 0 done, 2 bad input.
"""
EVERYTHING = ("model", "ema", "optim")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and convert; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        convert = to_published if arguments.to_published else from_published
        lines = convert(arguments)
    except (ValueError, OSError) as error:
        print(f"convert_checkpoint: {error}", file=sys.stderr)
        return 2
    print(*lines, sep="\n")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.convert_checkpoint",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("input", type=Path, metavar="IN", help="published file; with --to-published a run or checkpoint")
    add(
        "output",
        type=Path,
        metavar="OUT",
        help="FILE.safetensors, or a new run's folder; or a published file",
    )
    add("--config", metavar="FILE", help="of the published weights (default: below)")
    add("--to-published", action="store_true", help="write the published format")
    add("--raw", action="store_true", help="the raw weights instead of the EMA weights")
    return parser


def from_published(arguments: argparse.Namespace) -> list[str]:
    """Write published weights as a checkpoint or run; returns lines for the user.

    Errors of the user are raised before anything is written if possible.
    """
    from config.run import load_config
    from models.checkpoints.format import (
        checkpoint_path,
        find_checkpoint,
        write_checkpoint,
    )
    from models.checkpoints.loading import open_checkpoint, require_whole
    from models.checkpoints.opened_file import opened
    from models.checkpoints.published import PUBLISHED_CONFIG
    from models.checkpoints.published_control import PUBLISHED_CONTROL_CONFIG, is_published_control
    from models.training.run_directory import RunFolder

    # Check the output before reading the whole input.
    source, output = find_checkpoint(arguments.input), arguments.output
    _refuse_overwriting(source, output)
    if arguments.raw:
        raise ValueError("--raw selects weights of a run; give it only with --to-published")
    with opened(source) as file:
        own = PUBLISHED_CONTROL_CONFIG if is_published_control(file) else PUBLISHED_CONFIG
    settings = arguments.config or own
    as_run = output.suffix != ".safetensors"
    if as_run and (output.is_file() or (output / "config.json").exists()):
        raise ValueError(f"{output}: exists already; give a new folder, or a file that ends in .safetensors")

    # Read.
    config = load_config(settings, [f"name={output.name}", f"runs={output.parent}"] if as_run else [])
    checkpoint = require_whole(open_checkpoint(source, config=config))
    if checkpoint.format not in ("published", "published_control"):
        raise ValueError(
            f"{source}: is no published file but a checkpoint of this project already; --to-published writes "
            "the published format"
        )

    # Write.
    path = checkpoint_path(output, checkpoint.step) if as_run else output
    write_checkpoint(replace(checkpoint, path=path))
    if as_run:
        RunFolder(config).open(checkpoint.step)
    num = len(checkpoint.section("model"))
    left_out = "left out" if checkpoint.format == "published_control" else "not in the file"
    return [
        f"read: {source}, {checkpoint.origin['entries']} entries, {_size(num, config, source)}",
        f"step: {checkpoint.step}, optimiser {'kept' if checkpoint.section('optim') else left_out}",
        f"config: {settings}",
        f"written: {path}",
    ]


def to_published(arguments: argparse.Namespace) -> list[str]:
    """Write a checkpoint in the published format; returns lines for the user."""
    import torch

    from config.families import family
    from config.run import load_config
    from data.files import write_synced
    from models.checkpoints.building import empty_model
    from models.checkpoints.format import find_checkpoint
    from models.checkpoints.loading import config_of, open_checkpoint, require_whole
    from models.checkpoints.published import PUBLISHED_CONFIG, pack
    from models.checkpoints.published_control import PUBLISHED_CONTROL_CONFIG, pack_control
    from models.checkpoints.transfer import model_differences
    from models.checkpoints.xfactor import write_flax
    from models.stable_diffusion.view_model import ControlledModel

    source, output = find_checkpoint(arguments.input), arguments.output
    _refuse_overwriting(source, output)
    if arguments.config:
        raise ValueError("--config is for published weights; a checkpoint has its own, so leave it out")
    checkpoint = require_whole(open_checkpoint(source, sections=EVERYTHING))
    if output.suffix == ".npz":
        weights = checkpoint.section("model") if arguments.raw else checkpoint.best_weights()
        write_flax(output, weights)
        return [f"step: {checkpoint.step}", f"written: {output}, {len(weights)} arrays"]
    config = config_of(checkpoint)
    controlled = issubclass(family(config.model.family), ControlledModel)
    published, write = (PUBLISHED_CONTROL_CONFIG, pack_control) if controlled else (PUBLISHED_CONFIG, pack)
    document = write(checkpoint, empty_model(config.model, source), raw=arguments.raw)
    write_synced(output, lambda unfinished: torch.save(document, unfinished))
    averaged = checkpoint.section("ema") and not arguments.raw
    num = len(checkpoint.section("model"))
    others = model_differences(checkpoint, load_config(published)).items()
    return [
        f"read: {source}, {'averaged ' if averaged else ''}weights, {_size(num, config, source)}",
        f"step: {checkpoint.step}, optimiser {'kept' if document['optim'] else 'left out'}",
        *(f"the published code differs: {key} is {there}, here {here}" for key, (here, there) in others),
        f"written: {output}, {len(document['model'])} entries",
    ]


def _refuse_overwriting(source: Path, output: Path) -> None:
    if output.exists() and output.samefile(source):
        raise ValueError(f"{output}: is the input file; give another output")


def _size(num: int, config: "RunConfig", source: Path) -> str:
    """The size of a model with `num` of our tensors, in words."""
    from models.checkpoints.building import empty_model
    from models.checkpoints.published import CONSTANTS

    parameters = sum(parameter.numel() for parameter in empty_model(config.model, source).parameters())
    return f"{num + len(CONSTANTS)} distinct tensors, {parameters:,} parameters"


if __name__ == "__main__":
    sys.exit(main())
