"""Measure the speed of this project against a plain implementation and the hardware limit.

    python -m scripts.benchmark all
    python -m scripts.benchmark renderer --variant plain blocked --repeats 9
    python -m scripts.benchmark precision
    python -m scripts.benchmark parity

what to measure:
  renderer  volumes to latent images: forward, forward and backward, and a chart of how the time grows
  encoder   a photo to a volume                denoiser  a noisy view to a clean one
  step      a whole training step              sample    a photo to a novel view, all denoising steps
  loader    views a second from a PNG folder and from a packed set      all       all of these
  mixed_views  a model that composes views (ViewFusion): a step with mixed view counts, and a view
  precision the networks, the step and a view in float32 and in bfloat16, in turn
  parity    not speed: deviation of the model from figures of the published implementation, by group
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from scripts.benchmark.context import Bench
    from scripts.benchmark.measure import Figure

NAMES = ("renderer", "encoder", "denoiser", "step", "sample", "loader", "mixed_views")
SECTIONS = {  # of a name, if it is not a section itself
    "all": NAMES,
    "precision": ("encoder", "denoiser", "step", "sample"),
}
PRECISIONS = ("float32", "bfloat16")  # the variants of `precision`
VARIANTS = {
    "plain": "the yardstick: PyTorch's operations one after another, as in the published code (all sections)",
    "reference": "the renderer's backend that defines its results",
    "blocked": "the renderer's backend for CPUs: block by block of rays, within the caches",
    "fused": "the renderer's backend for GPUs: one kernel",
    "ours": "the model, the step and the sampler as configured (all sections but renderer and loader)",
    "cached": "the loader with every decoded picture of the PNG folder kept",
    "packed": "the loader with the same set packed by scripts.pack",
    "float32": "ours without bfloat16, where train.precision=auto is bfloat16",
    "bfloat16": "ours in bfloat16, also where train.precision=auto is float32; only when asked for",
    "compiled": "ours through torch.compile; on a CPU only when asked for",
}
HELP = """\
variants:
{variants}

Variants of a task take turns in one process, after a warm-up; medians, their ratios to plain and the peak of
extra memory are told. Beside each figure stands its floor: the time in which this machine could move the
least bytes and do the least operations of the task, by its own copy and matrix product, measured first. The
sizes are those of config/srn_cars_128.json, and for mixed_views those of config/viewfusion_nmr.json. On two
cores `all` takes about an hour, during which nothing else should run.

OUTPUT/YYYY-MM-DD_MACHINE.md holds the tables and what was not measured, the PNG beside it the chart; files
that exist are left alone.

parity runs the modules on stored inputs (tests/reference/), in float32 on the CPU, and prints for each group
of arrays the largest absolute deviation, the tolerance that goes with it, and the array where the two are
closest. The last column is their ratio: below 1 is within tolerance. Exit code 1 where one is not.
"""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure; user errors become one line and exit code 2."""
    command = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(command)
    if arguments.name == "parity":
        from scripts.benchmark.cases.parity import parity

        return parity()
    try:
        for path in benchmark(arguments, command):
            print(path)
    except (ValueError, OSError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmark: interrupted, nothing was written", file=sys.stderr)
        return 130
    return 0


def benchmark(arguments: argparse.Namespace, command: list[str]) -> list[Path]:
    """Measure, print the tables, and return the files that were written.

    Raises a one-line ValueError or OSError if something requested is not available.
    """
    _check(arguments)
    from models.device import choose_device
    from scripts.benchmark.cases.renderer import renderer_growth
    from scripts.benchmark.context import Bench
    from scripts.benchmark.machine import device_name, measure_ceilings
    from scripts.benchmark.report import Results, report_path, table, write_chart, write_report

    device = choose_device(arguments.device)
    sections = SECTIONS.get(arguments.name, (arguments.name,))
    wanted = arguments.variant or (PRECISIONS if arguments.name == "precision" else ())
    arguments.output.mkdir(parents=True, exist_ok=True)  # now rather than after an hour
    size, repeats, steps = arguments.size, arguments.repeats, arguments.steps
    ceilings = measure_ceilings(device, size)
    bench = Bench(device, size, repeats, steps, ceilings, tuple(wanted))
    bench.unmeasured += _left_out(device.type, sections, bench.variants)
    results, measurements, day = Results(), _measurements(), date.today()
    for section in sections:
        results.figures[section] = measurements[section](bench)
        print(f"{section}\n{table(results.figures[section])}", flush=True)
    if "renderer" in sections:
        results.growth = renderer_growth(bench)
    path = report_path(arguments.output, bench, day)
    write_report(path, bench, results, command, day)
    if not results.growth:
        return [path]
    write_chart(path.with_suffix(".png"), results.growth, f"{device_name(device)}, {day.isoformat()}")
    return [path, path.with_suffix(".png")]


def _left_out(device: str, sections: Sequence[str], variants: Sequence[str]) -> list[str]:
    """Note what is known in advance not to be measured."""
    found = [f"section {name}: not asked for" for name in NAMES if name not in sections]
    if variants:
        found.append(f"variants other than {', '.join(variants)}: not asked for")
    if device == "cpu":
        found.append("anything on a GPU: this run is on the CPU")
    return found


def _measurements() -> dict[str, Callable[["Bench"], list["Figure"]]]:
    from scripts.benchmark.cases.loader import loader_figures
    from scripts.benchmark.cases.mixed_views import mixed_views_figures
    from scripts.benchmark.cases.networks import denoiser_figures, encoder_figures
    from scripts.benchmark.cases.renderer import renderer_figures
    from scripts.benchmark.cases.sample import sample_figures
    from scripts.benchmark.cases.step import step_figures

    return {
        "renderer": renderer_figures,
        "encoder": encoder_figures,
        "denoiser": denoiser_figures,
        "step": step_figures,
        "sample": sample_figures,
        "loader": loader_figures,
        "mixed_views": mixed_views_figures,
    }


def _check(arguments: argparse.Namespace) -> None:
    if arguments.repeats < 1:
        raise ValueError(f"--repeats is {arguments.repeats}; give 1 or more")
    if not 2 <= arguments.steps <= 250:
        raise ValueError(f"--steps is {arguments.steps}; give 2 to 250")
    unknown = [name for name in arguments.variant or () if name not in VARIANTS]
    if unknown:
        raise ValueError(
            f"--variant {unknown[0]}: there is none of that name; choose of {', '.join(VARIANTS)}"
        )


def _parser() -> argparse.ArgumentParser:
    explained = "\n".join(f"  {name:10}{meaning}" for name, meaning in VARIANTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark",
        description=__doc__,
        epilog=HELP.format(variants=explained),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=(*NAMES, *SECTIONS, "parity"), help="what to measure, see above")
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU where there is one), cpu, cuda or cuda:N"
    )
    parser.add_argument(
        "--size", choices=("full", "small"), default="full", help="small: seconds, to see that all works"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="runs of each variant (%(default)s)"
    )
    parser.add_argument("--variant", nargs="+", metavar="NAME", help="only these, see below (default: all)")
    parser.add_argument(
        "--steps",
        type=int,
        default=4,
        metavar="N",
        help="plain denoising steps that are run, of 250 or 2000, to work out the time of all (%(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("benchmarks"),
        metavar="DIR",
        help="folder of the files (%(default)s)",
    )
    return parser
