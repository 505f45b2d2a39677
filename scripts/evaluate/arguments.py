"""The command line of `python -m scripts.evaluate`. Imports nothing slow."""

import argparse
from collections.abc import Callable
from pathlib import Path

from scripts.common.command_line import OneLineParser
from scripts.evaluate.protocols import CHOICES, PROTOCOLS, QUICK
from scripts.evaluate.request import EvaluateRequest
from scripts.sampling.arguments import sampling_options
from scripts.sampling.family_options import LEVELS, add_latent_options

DESCRIPTION = """\
Evaluate a model on held-out objects, and compare it with trivial baselines.

    python -m scripts.evaluate --checkpoint runs/NAME                            quick
    python -m scripts.evaluate --checkpoint runs/NAME --protocol srn_cars_1view  standard protocol
"""
HELP = """\
protocols (input views, counted from 0; all other views are target views):
  quick              view 64, or 0 if there are fewer; 4 evenly spaced target views of each object of the val
                     split; prints only PSNR, within a minute. The default.
  srn_cars_1view     64            the test split in the SRN layout: 251 views of 128 x 128 pixels
  srn_cars_2view     64 and 104
  srn_chairs_1view   64
  srn_chairs_2view   64 and 104
  nmr                0             24 views of 64 x 64; objects of test.lst
  nmr_softras        0             the same; objects of softras_test.lst
  nmr_gen            0             the same; objects of gen_test.lst (categories that training lacks)
  dtu_1view          the first 1, 3, 6 or 9 of DTU's fixed order; views are counted among the 34 usual ones,
  ... dtu_9view      and those of --view-choice are judged, also with masks, at 400 x 300 pixels; 15 scenes
  nmr_random_1view   1, at random by the object's name; one other view, likewise, is judged; objects of
                     test.lst. So are nmr_random_2view ... nmr_random_6view, of more input views

All protocols except quick write the images as PNG, read them back, and measure PSNR, SSIM (with a Gaussian
window, and with scikit-image's window of 7 x 7), stLPIPS, LPIPS-VGG, DISTS and FID of the samples, the RGB
preview of the volume, the copied input view, the nearest input view and the mean training image: means over
views, then over objects. If the weights of a metric are missing, the program says which file to download and
computes the others. If the set has depth, the geometry of the volume is evaluated, too.
Needs: pip install -r requirements-metrics.txt

files in the output folder:
  results.md                     the table
  results.tex, results.json      its rows for a paper; all details
  objects.csv                    a line for each object
  choices.csv                    of DTU: a line for each scene, choice of views and seed, and their means
  sheet_best.png ...             best, median, worst object by PSNR: input views; truth, sample, preview
  objects/NAME/seed_0/*.png ...  samples; next to them previews, and figures.json with the figures by view

The same command resumes an interrupted evaluation; more --seeds, --objects or metrics extend an existing one.
Several processes can share the work, each with its own --shard K/N, or started by torchrun; the last to
finish writes the table, as does the same command with --merge. Exit codes: 0 done, 2 bad input, 130
interrupted. docs/evaluation.md defines the metrics.
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.evaluate",
        description=DESCRIPTION,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add, whole = parser.add_argument, _number(int, 1)
    help = "run such as runs/NAME, a checkpoint, or genvs.pt"
    add("--checkpoint", "--transfer", required=True, metavar="PATH", help=help)

    add = parser.add_argument_group("data").add_argument
    add("--protocol", default=QUICK, choices=(QUICK, *PROTOCOLS), metavar="NAME", help="see below")
    add("--data", metavar="ROOT", help="data set (default: the training data)")
    add("--split", choices=("train", "val", "test"), help="default: test; with quick: val")
    add("--objects", type=whole, metavar="N", help="the first N objects (default: all)")
    add("--views", type=whole, metavar="N", help="N evenly spaced views (default: all; with quick: 4)")
    help = "input views instead of the protocol's"
    add("--input-view", nargs="+", type=_number(int, 0), metavar="VIEW", help=help)
    help = "text file with the input views of each object, such as pixelNeRF's src_dvr.txt"
    add("--view-list", type=Path, metavar="FILE", help=help)
    help = "like data.depth_scale: factor for depth images (default: that of the run; with --data, 1)"
    add("--depth-scale", type=float, metavar="X", help=help)
    help = "views of DTU to judge, first those of the main table: regnerf25, rest (all but the input), all34"
    add("--view-choice", nargs="+", choices=CHOICES, metavar="NAME", help=f"{help} (default: all three)")
    help = "resize pictures that are measured with masks with antialiasing (published: without)"
    add("--antialias", action="store_true", help=help)
    help = "a view without a mask stops the evaluation, or is measured as if all were the object: stop, white"
    add("--missing-masks", choices=("stop", "white"), metavar="HOW", help=f"{help} (default: as in training)")

    add = parser.add_argument_group("sampling (default: the options of the run)").add_argument
    add("--sampler", metavar="NAME", help="as for sample_views.py")
    add("--steps", type=whole, metavar="N", help="denoising steps")
    add("--guidance", "--cfg", type=float, metavar="X", help="1: none; higher: closer to the input")
    help = "noise levels of the steps: karras, or training (for models trained with their own schedule)"
    add("--levels", choices=LEVELS, help=help)
    add_latent_options(parser)
    add("--seed", type=_number(int, 0), default=0, metavar="N", help="of the first samples (default: 0)")
    help = "number of samples of every view, for means and deviations over seeds (default: 1)"
    add("--seeds", type=whole, metavar="N", help=help)
    help = "add a row for the sample of best PSNR among the first N seeds (selected by the ground truth)"
    add("--best-of", type=_number(int, 2), metavar="N", help=help)
    add("--batch", type=whole, default=4, metavar="N", help="views per batch (default: 4)")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")

    add = parser.add_argument_group("output and processes").add_argument
    help = "default: runs/NAME/evaluation/PROTOCOL; with quick, a JSON file (default: none)"
    add("--output", type=Path, metavar="PATH", help=help)
    add("--shard", type=_shard, metavar="K/N", help="part K of N of the objects, K from 1")
    add("--merge", action="store_true", help="sample nothing; write the table of the existing results")
    return parser


def evaluate_request(arguments: argparse.Namespace) -> EvaluateRequest:
    """The request that the parsed command line describes. Raises ValueError if flags conflict."""
    return EvaluateRequest(
        checkpoint=arguments.checkpoint,
        protocol=arguments.protocol,
        data=arguments.data,
        split=arguments.split,
        num_objects=arguments.objects,
        num_views=arguments.views,
        source_views=tuple(arguments.input_view) if arguments.input_view else None,
        view_list=arguments.view_list,
        depth_scale=arguments.depth_scale,
        view_choices=tuple(arguments.view_choice) if arguments.view_choice else None,
        antialias=arguments.antialias,
        missing_masks=arguments.missing_masks,
        options=sampling_options(arguments),
        seed=arguments.seed,
        num_seeds=arguments.seeds,
        best_of=arguments.best_of,
        batch=arguments.batch,
        device=arguments.device,
        output=arguments.output,
        shard=arguments.shard,
        merge=arguments.merge,
    )


def _number(kind: type, least: float) -> Callable[[str], float]:
    """An argument type: numbers of at least `least`."""

    def number(text: str) -> float:
        value = kind(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return number


def _shard(text: str) -> tuple[int, int]:
    """An argument type: (part from 0, number of parts) from "K/N"."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text} is not K/N with K from 1 to N, such as 2/8")
    return int(part) - 1, int(parts)
