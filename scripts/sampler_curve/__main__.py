"""Compare samplers and numbers of steps: quality of a model's views versus cost.

    python -m scripts.sampler_curve runs/NAME

Samples the same held-out views, with the same seeds, by every sampler and number of steps. Measures PSNR,
SSIM, the perceptual distance stLPIPS, the seconds per view, and the network evaluations (some samplers need
two per step). The baselines are the published sampler (250 stochastic Euler steps, if the family names no
other) and the run's own options. Needs: pip install -r requirements-metrics.txt
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from scripts.common.command_line import OneLineParser
from scripts.training.messages import tell

if TYPE_CHECKING:  # heavy modules are imported where they are used, so that --help is fast
    import torch

    from config.run import RunConfig
    from data.cameras.pinhole import Cameras
    from data.scenes.batch import Applicable, SceneBatch
    from data.scenes.objects import Objects
    from diffusion.samplers import SampleOptions
    from models.base import NVSModel
    from models.perceptual import Distance
    from scripts.sampler_curve.curve import Curve, Row

HELP = """\
samplers: euler, heun, dpm_2, lms, dpmpp_2m, euler_ancestral, dpm_2_ancestral, dpmpp_2s_ancestral, dpmpp_sde,
  dpmpp_2m_sde, dpmpp_3m_sde; euler, heun and dpm_2 also with churn: euler+churn and so on.

files in the output folder: curve.json (figures of every view), curve.md (their means), curve.png. A call with
other samplers, steps or noise levels adds to them, and the same call resumes an interrupted one.
"""
SAMPLERS = ("euler", "euler+churn", "heun", "dpmpp_2m", "dpmpp_2m_sde")
STEPS = (10, 18, 25, 50, 100, 250)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        written = sampler_curve(arguments)
    except (ValueError, OSError) as error:
        print(f"sampler_curve: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sampler_curve: interrupted; run the same command to resume", file=sys.stderr)
        return 130
    print(*written, sep="\n")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.sampler_curve",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="run such as runs/NAME, or a checkpoint")
    add("--data", metavar="ROOT", help="data set (default: the training data)")
    add("--split", default="val", choices=("train", "val", "test"), help="default: val")
    add("--objects", type=int, metavar="N", help="the first N objects (default: all)")
    add("--views", type=int, default=4, metavar="N", help="target views per object (default: 4)")
    add("--samplers", nargs="+", default=SAMPLERS, metavar="NAME", help=f"default: {' '.join(SAMPLERS)}")
    add("--steps", nargs="+", type=int, default=STEPS, metavar="N", help="default: 10 18 25 50 100 250")
    add("--sigma-min", type=float, metavar="X", help="lowest noise level (default: the library's)")
    add("--sigma-max", type=float, metavar="X", help="highest noise level (default: the library's)")
    add("--seed", type=int, default=0, metavar="N", help="of the samples (default: 0)")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--output", type=Path, metavar="FOLDER", help="default: samples/RUN/curve")
    return parser


def sampler_curve(arguments: argparse.Namespace) -> list[Path]:
    """Measure the samplers of the command line; returns the files written, the table first.

    Errors of the user are raised before sampling if possible.
    """
    from data.files import write_text_whole
    from data.formats.registry import at_root, open_split
    from diffusion.samplers import num_evaluations
    from models.checkpoints.format import checksum_of
    from models.checkpoints.loading import load_model
    from models.device import choose_device
    from scripts.common.progress import progress_bar
    from scripts.sampler_curve.curve import BASELINE, chart, table

    # Model, data and metrics.
    device = choose_device(arguments.device)
    judges = load_judges(device)
    asked_for(arguments, BASELINE)  # raises for samplers that do not exist before the model is read
    model, config, step = load_model(arguments.run)
    settings = asked_for(arguments, model.published_options or BASELINE)
    data = at_root(config.data, arguments.data) if arguments.data else config.data
    objects = open_split(data, arguments.split)
    tell(objects.notices, "sampler_curve")
    batches = held_out_objects(objects, arguments)

    # Keep rows of an earlier call with the same setup.
    setup = {"run": config.name, "step": step, "weights": checksum_of(model.state_dict())}
    setup |= {"data": data.root, "split": arguments.split}
    setup |= {"objects": len(batches), "views": arguments.views, "seed": arguments.seed}
    folder = arguments.output or Path("samples") / config.name / "curve"
    curve = read_curve(folder / "curve.json", setup, type(settings[0]))

    # Fail now if the folder is not writable.
    write_text_whole(folder / "curve.json", curve.model_dump_json(indent=1))
    unknown = [options for options in (*settings, config.sample) if curve.row(options) is None]
    if unknown:
        scenes = encoded(model, config, batches, device)
    # The baseline first, so that an interrupted curve has one.
    unknown.sort(key=lambda options: (options != settings[0], num_evaluations(options)))
    for options in progress_bar(unknown, unit="setting", desc="sampling"):
        if curve.row(options) is None:
            curve = curve.with_row(measured(model, config, scenes, options, judges, device))
            write_text_whole(folder / "curve.json", curve.model_dump_json(indent=1))
    write_text_whole(folder / "curve.md", table(curve))
    chart(curve, folder / "curve.png")
    return [folder / name for name in ("curve.md", "curve.png", "curve.json")]


def asked_for(arguments: argparse.Namespace, baseline: "SampleOptions") -> list["SampleOptions"]:
    """The baseline, then every sampler with every number of steps, as options of the same class.

    Raises ValueError if a sampler does not exist or does not support the options.
    """
    from pydantic import ValidationError

    from scripts.sampler_curve.curve import CHURN

    levels = {"sigma_min": arguments.sigma_min, "sigma_max": arguments.sigma_max}
    levels = {name: value for name, value in levels.items() if value is not None}
    settings = [baseline]
    for name in arguments.samplers:
        plain, stochastic = name.removesuffix(CHURN), name.endswith(CHURN)
        for steps in arguments.steps:
            try:
                settings.append(type(baseline)(sampler=plain, stochastic=stochastic, steps=steps, **levels))
            except ValidationError as error:
                problem = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"{name} with {steps} steps: {problem}") from error
    return settings


def load_judges(device: "torch.device") -> dict[str, "Distance"]:
    """The metrics by name. Raises ValueError if a package that they or the chart need is missing."""
    from data.images.quality import extra, psnr, ssim
    from models.perceptual import load_stlpips

    for name in ("matplotlib.figure", "torchmetrics.functional.image"):
        extra(name)
    return {"psnr": psnr, "ssim": ssim, "stlpips": load_stlpips(device)}


def held_out_objects(objects: "Objects", arguments: argparse.Namespace) -> list["SceneBatch"]:
    """Batches of one object each, with one source view and evenly spaced target views.

    Raises ValueError if there are too few objects or views.
    """
    from data.scenes.loader import collate, held_out_choice

    num = len(objects) if arguments.objects is None else arguments.objects
    if not 1 <= num <= len(objects):
        raise ValueError(f"--objects {num}: the split has {len(objects)}; ask for 1 to that many")
    choices = [
        held_out_choice(objects, index, num_targets=arguments.views, seed=arguments.seed)
        for index in range(num)
    ]
    return [collate(objects, [choice], num_sources=1) for choice in choices]


def read_curve(path: Path, setup: dict[str, str | int], options: type["SampleOptions"]) -> "Curve":
    """Read the results of this setup, empty if there is no file; `options` is the class of theirs.

    Raises ValueError if the file is damaged or has another setup.
    """
    from scripts.sampler_curve.curve import Curve

    if not path.exists():
        return Curve(setup=setup)
    try:
        text = path.read_text(encoding="utf-8")
        curve = Curve.model_validate_json(text, context={"options": options})
    except ValueError as error:
        raise ValueError(f"{path}: is no curve; delete it, or choose another --output") from error
    changed = [name for name in setup if curve.setup.get(name) != setup[name]]
    if changed:
        before, now = curve.setup.get(changed[0]), setup[changed[0]]
        raise ValueError(
            f"{path}: was measured with {changed[0]} {before}, now {now}; choose another --output"
        )
    return curve


@dataclass(frozen=True)
class Scene:
    """An object with its encoded source view, target cameras, seeds and ground truth."""

    encoding: "Applicable"
    cameras: "Cameras"  # [1, t]
    seeds: "torch.Tensor"  # [1, t]
    truth: "torch.Tensor"  # [t, 3, h, w] in [-1, 1]


def encoded(
    model: "NVSModel", config: "RunConfig", batches: list["SceneBatch"], device: "torch.device"
) -> list[Scene]:
    """The objects on the device, encoded once for all samplers."""
    import torch

    from models.device import autocast, place

    place(model, device)
    scenes = []
    for batch in batches:
        on_device = batch.apply(lambda tensor: tensor.to(device))
        source, target = on_device.source, on_device.target
        seeds = batch.seeds[:, None] + torch.arange(target.images.shape[1])
        with torch.no_grad(), autocast(config.train.precision, device):
            encoding = model.encode(source)
        scenes.append(Scene(encoding, target.cameras, seeds, target.images[0]))
    return scenes


def measured(
    model: "NVSModel",
    config: "RunConfig",
    scenes: list[Scene],
    options: "SampleOptions",
    judges: dict[str, "Distance"],
    device: "torch.device",
) -> "Row":
    """Sample and measure the views of every object. Raises ValueError if they are not finite."""
    import torch

    from models.device import autocast
    from models.sampling.finite import require_finite
    from scripts.sampler_curve.curve import Row, label

    seconds, scores = [], {metric: [] for metric in judges}
    for scene in scenes:
        began = _now(device)
        with torch.no_grad(), autocast(config.train.precision, device):
            images = model.draw(scene.encoding, scene.cameras, scene.seeds, options).images[0]
        seconds.append((_now(device) - began) / len(images))
        require_finite(images, of=label(options))
        for metric, judge in judges.items():
            scores[metric].append([round(score, 6) for score in judge(images, scene.truth).tolist()])
    return Row(options=options, seconds=round(median(seconds), 5), scores=scores)


def _now(device: "torch.device") -> float:
    """Time in seconds, after synchronising the device."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
