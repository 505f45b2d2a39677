"""The command line of `python -m scripts.evaluate`. Imports nothing that takes time."""

import argparse
from collections.abc import Callable
from pathlib import Path

from scripts.common.command_line import OneLineParser
from scripts.evaluate.protocols import PROTOCOLS, QUICK
from scripts.evaluate.request import EvaluateRequest
from scripts.sampling.arguments import sampling_options

DESCRIPTION = """\
Judge a model on held-out objects, beside what needs no model at all.

    python -m scripts.evaluate --checkpoint runs/NAME                            a quick look
    python -m scripts.evaluate --checkpoint runs/NAME --protocol srn_cars_1view  the field's protocol
"""
HELP = """\
protocols (input views, counted from 0; all other views are judged):
  quick              view 64, or 0 where there are fewer; 4 evenly spaced views of each object of the val
                     split; PSNR alone, printed, in a minute. The default.
  srn_cars_1view     64            the test split in the SRN layout: 251 views of 128 x 128 pixels
  srn_cars_2view     64 and 104
  srn_chairs_1view   64
  srn_chairs_2view   64 and 104
  nmr                0             24 views of 64 x 64; objects of test.lst
  nmr_softras        0             the same; objects of softras_test.lst
  nmr_gen            0             the same; objects of gen_test.lst (categories that training lacks)
  nmr_random_1view   1, at random by the object's name; one other view, likewise, is judged; objects of
                     test.lst. So are nmr_random_2view ... nmr_random_6view, of more input views

Every protocol but quick writes the pictures as PNG, reads them back, and measures PSNR, SSIM (with a Gaussian
window, and with scikit-image's of 7 x 7), stLPIPS, LPIPS-VGG, DISTS and FID of the samples, of the volume's
RGB preview, of the copied input view, of the nearest input view and of the mean training image: means over
views, then over objects. Of what needs weights that are not here, it says which file to put where, and the
rest is measured. Where the set has depth, the shape of the volume is judged, too.
Needs: pip install -r requirements-metrics.txt

files in the output folder:
  results.md                     the table
  results.tex, results.json      its rows for a paper; all its details
  objects.csv                    a line for each object
  sheet_best.png ...             best, median, worst object by PSNR: input views; truth, sample, preview
  objects/NAME/seed_0/*.png ...  samples; beside them previews, and figures.json with those of every view

The same command goes on where it was stopped; more --seeds, --objects or metrics are added to what is there.
Several processes share the work: each has its own --shard K/N, or is started by torchrun; the last to finish
writes the table, as does the same command with --merge. Exit codes: 0 done, 2 bad input, 130 interrupted.
docs/evaluation.md says exactly what is measured.
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

    add = parser.add_argument_group("what to judge it on").add_argument
    add("--protocol", default=QUICK, choices=(QUICK, *PROTOCOLS), metavar="NAME", help="see below")
    add("--data", metavar="ROOT", help="data set (default: the one the model was trained on)")
    add("--split", choices=("train", "val", "test"), help="default: test; of quick: val")
    add("--objects", type=whole, metavar="N", help="the first N objects (default: all)")
    add("--views", type=whole, metavar="N", help="N evenly spaced views (default: all; of quick: 4)")
    help = "input views instead of the protocol's"
    add("--input-view", nargs="+", type=_number(int, 0), metavar="VIEW", help=help)
    help = "text file with the input views of each object, as pixelNeRF's src_dvr.txt"
    add("--view-list", type=Path, metavar="FILE", help=help)
    help = "as data.depth_scale: what depth pictures are multiplied by (default: as the run's; of --data, 1)"
    add("--depth-scale", type=float, metavar="X", help=help)

    add = parser.add_argument_group("how to draw (defaults: those of the run)").add_argument
    add("--sampler", metavar="NAME", help="as for sample_views.py")
    add("--steps", type=whole, metavar="N", help="denoising steps")
    add("--guidance", type=float, metavar="X", help="1: none; more: nearer to the input")
    help = "noise levels of the steps: karras or training (models that learn a schedule of their own)"
    add("--levels", choices=("karras", "training"), help=help)
    add("--seed", type=_number(int, 0), default=0, metavar="N", help="of the first samples (default: 0)")
    help = "samples of every view, from as many seeds: means and deviations over them (default: 1)"
    add("--seeds", type=whole, metavar="N", help=help)
    help = "one row more: of the first N seeds, the sample of best PSNR, which takes the truth to know"
    add("--best-of", type=_number(int, 2), metavar="N", help=help)
    add("--batch", type=whole, default=4, metavar="N", help="views at once (default: 4)")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")

    add = parser.add_argument_group("where, and by how many").add_argument
    help = "default: runs/NAME/evaluation/PROTOCOL; with quick, a JSON file (default: none)"
    add("--output", type=Path, metavar="PATH", help=help)
    add("--shard", type=_shard, metavar="K/N", help="part K of N of the objects, K from 1")
    add("--merge", action="store_true", help="draw nothing; write the table of what is there")
    return parser


def evaluate_request(arguments: argparse.Namespace) -> EvaluateRequest:
    """What the parsed command line asks for. Raises ValueError where flags contradict each other."""
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
    """Reads numbers from `least` on."""

    def number(text: str) -> float:
        value = kind(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return number


def _shard(text: str) -> tuple[int, int]:
    """(part from 0, parts) of "K/N"."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text} is not K/N with K from 1 to N, such as 2/8")
    return int(part) - 1, int(parts)
