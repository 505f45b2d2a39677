"""Draw novel views of an object with a trained model: python sample_views.py --transfer RUN_OR_CHECKPOINT"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.command_line import OneLineParser

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    import torch
    from tqdm import tqdm

    from config import RunConfig
    from data.selection import Job
    from models.base import NVSModel
    from models.gallery import Gallery

HELP = """\
examples:
  python sample_views.py --transfer runs/quickstart
  python sample_views.py --transfer runs/srn_cars_128 --cond-views 64 104 --trajectory srn_test --progress
  python sample_views.py --transfer runs/srn_cars_128 --autoregressive --stochastic --n 5
  python sample_views.py --transfer runs/srn_cars_128 --object 1a2b3c --trajectory data --steps 50
  python sample_views.py --transfer runs/srn_cars_128 --image car.png --camera pose.txt --trajectory circle

trajectories (at the distance and with the intrinsics of the first conditioning view):
  spiral      two turns while the view rises from -10 to 60 degrees      40 views
  circle      the first conditioning view carried once round the z axis  40 views
  turntable   one turn at an elevation of 20 degrees                     40 views
  srn_test    the SRN test spiral                                        251 views
  data        the object's own views other than the conditioning ones    all of them

samplers: euler, heun, dpm_2 (deterministic, or with churn if --stochastic); lms, dpmpp_2m (deterministic);
  euler_ancestral, dpm_2_ancestral, dpmpp_2s_ancestral, dpmpp_sde, dpmpp_2m_sde, dpmpp_3m_sde (stochastic).
  --stochastic alone replaces a sampler that knows no noise by dpmpp_2m_sde.

files in the output folder, each after --prefix:
  cond_00.png ...    conditioning views     views.mp4        the views, below them the previews
  view_0000.png ...  the views              sheet.png        all of it at a glance
  preview_0000.png   without diffusion      progress.mp4     the denoising of the first views (--progress)
  depth_0000.png     dark near, light far   transforms.json  cameras of the views (nerfstudio, OpenGL axes)

Cameras are camera-to-world in OpenCV axes (x right, y down, z forward); the world's z axis is up and the
object stands at the origin, about as far from the camera as in training. A photo should show the object on
white or transparent ground; one that is not square gets white borders. A view depends on --seed, the object
and the number of the view, not on --batch. With --autoregressive, views are drawn one by one, and each looks
at the conditioning views, up to four earlier views and the last one.
Ctrl-C leaves the pictures that are finished. Exit codes: 0 done, 2 bad input, 130 interrupted.
"""
TRAJECTORIES = ("spiral", "circle", "turntable", "srn_test", "data")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and sample; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        written = sample_views(arguments)
    except (ValueError, OSError) as error:
        return fail(2, str(error))
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        return fail(2, f"{str(error).splitlines()[0]}; lower --batch")
    except KeyboardInterrupt:
        return fail(130, "interrupted; the pictures written so far are complete")
    print(*written, sep="\n")
    return 0


def fail(code: int, message: str) -> int:
    """Say why the program leaves with an exit code."""
    print(f"sample_views.py: {message}", file=sys.stderr)
    return code


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="sample_views.py",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add, whole = parser.add_argument, _number(int, 1, 100_000)
    add("--transfer", required=True, metavar="PATH", help="run such as runs/NAME, a checkpoint, or genvs.pt")

    add = parser.add_argument_group("what to look at").add_argument
    add("--data", metavar="ROOT", help="data set in the SRN layout (default: the one of the training)")
    add("--split", default="test", choices=("train", "val", "test"), help="of the data set (default: test)")
    add("--n", type=whole, metavar="N", help="the first N objects of the split (default: 1)")
    add("--object", nargs="+", metavar="ID", help="these objects instead")
    help = "conditioning views, counted from 0 (default: 64, or 0 where there are fewer)"
    add("--cond-views", nargs="+", metavar="VIEW", help=help)
    add("--image", nargs="+", type=Path, metavar="PHOTO", help="photos of one object instead of a data set")
    add("--camera", nargs="+", type=Path, metavar="FILE", help="4x4 pose of each photo, or transforms.json")
    add("--intrinsics", type=Path, metavar="FILE", help="of all photos, in SRN form (default: SRN cars)")

    add = parser.add_argument_group("what to draw").add_argument
    add("--trajectory", default="spiral", choices=TRAJECTORIES, help="default: spiral")
    add("--views", type=whole, metavar="N", help="views of the trajectory (default: see below)")
    add("--autoregressive", action="store_true", help="each view looks at those before it")

    add = parser.add_argument_group("how to draw it (defaults: those of the run)").add_argument
    add("--sampler", metavar="NAME", help="see below")
    add("--steps", type=_number(int, 2, 10_000), metavar="N", help="denoising steps")
    add("--guidance", type=_number(float, -100, 100), metavar="X", help="1: none; more: nearer to the input")
    add("--stochastic", action="store_true", help="add noise on the way")
    add("--unconditional", action="store_true", help="do not look at the conditioning views")
    add("--seed", type=_number(int, 0, 2**63 - 1), default=0, metavar="N", help="default: 0")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--batch", type=whole, default=4, metavar="N", help="views at once (default: 4)")

    add = parser.add_argument_group("what to write").add_argument
    help = "default: samples/RUN/OBJECT; of several objects, each has its own folder in it"
    add("--output", type=Path, metavar="FOLDER", help=help)
    add("--prefix", default="", metavar="TEXT", help="beginning of all file names")
    add("--progress", action="store_true", help="also a film of the denoising steps")
    add("--fps", type=_number(float, 0.1, 240), default=10.0, metavar="X", help="of films (default: 10)")
    return parser


def sample_views(arguments: argparse.Namespace) -> list[Path]:
    """Sample what the command line asks for; returns the films and sheets that were written.

    Raises ValueError or OSError, in one line for the user, before anything is drawn wherever possible.
    """
    _check_combinations(arguments)
    import torch
    from tqdm import tqdm

    from config.run_folder import load_model
    from models.device import autocast, choose_device, place
    from models.gallery import Gallery

    device = choose_device(arguments.device)
    model, config, _ = load_model(arguments.transfer)
    config = with_choices(config, arguments)
    jobs = photo_jobs(config, arguments) if arguments.image else data_jobs(config, arguments)
    style = {"prefix": arguments.prefix, "fps": arguments.fps}
    folders = output_folders(config, arguments, jobs)
    galleries = [Gallery(folder, job.cameras[0], **style) for folder, job in zip(folders, jobs, strict=True)]
    for gallery in galleries:
        gallery.open()

    place(model, device)
    written: list[Path] = []
    total = sum(job.cameras.shape[1] for job in jobs)
    precision = autocast(config.train.precision, device)
    with tqdm(total=total, unit="view") as bar, torch.no_grad(), precision:
        for job, gallery in zip(jobs, galleries, strict=True):
            bar.set_description(job.name)
            draw(job, model, config, arguments, gallery, bar, device)
            written += gallery.close()
    return written


def draw(
    job: "Job",
    model: "NVSModel",
    config: "RunConfig",
    arguments: argparse.Namespace,
    gallery: "Gallery",
    bar: "tqdm",
    device: "torch.device",
) -> None:
    """Draw the views of one object, and write each as soon as it is there."""
    import torch
    from tqdm import tqdm

    from diffusion.noise import derived_seed
    from models.autoregressive import sample_autoregressive, sample_in_batches

    gallery.add_source(job.source)
    source = job.source.apply(lambda tensor: tensor.to(device))
    cameras = job.cameras.apply(lambda tensor: tensor.to(device))
    own = derived_seed(arguments.seed, job.name)
    seeds = torch.tensor([[derived_seed(own, view) for view in range(cameras.shape[1])]])
    steps = tqdm(total=config.sample.steps, unit="step", desc="denoising", leave=False)

    def on_step(step: int, clean: "torch.Tensor") -> None:
        steps.update()
        if arguments.progress:
            gallery.add_step(clean)

    given = (model, source, cameras, seeds, config.sample)
    if arguments.autoregressive:
        predictions = sample_autoregressive(*given, callback=on_step)
    else:
        predictions = sample_in_batches(*given, batch=arguments.batch, callback=on_step)
    with steps:
        for prediction in predictions:
            gallery.add(prediction)
            bar.update(prediction.images.shape[1])
            steps.reset()


def with_choices(config: "RunConfig", arguments: argparse.Namespace) -> "RunConfig":
    """The run's config with what the command line changes. Raises ValueError where that makes no sense."""
    from config import validate_config
    from diffusion.samplers import SAMPLERS

    document = config.model_dump(mode="json")
    if arguments.data is not None:
        document["data"] |= {"root": arguments.data, "views": None}
    options = document["sample"]
    for name in ("sampler", "steps", "guidance"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    if arguments.unconditional:
        options["unconditional"] = True
        options["guidance"] = 1.0 if arguments.guidance is None else arguments.guidance
    if arguments.stochastic:
        options["stochastic"] = True
        if arguments.sampler is None and SAMPLERS[options["sampler"]] == "none":
            options["sampler"] = "dpmpp_2m_sde"
    return validate_config(document, "command line")


def photo_jobs(config: "RunConfig", arguments: argparse.Namespace) -> list["Job"]:
    """The one object of which the user has photos."""
    from data.photos import read_photos
    from data.selection import Job
    from data.trajectories import trajectory

    files, radius = (arguments.image, arguments.camera, arguments.intrinsics), config.data.object_radius
    options = {"image_size": config.data.image_size, "resampling": config.data.resampling}
    source = read_photos(*files, object_radius=radius, **options)
    first, path = source.cameras[0, 0], arguments.trajectory
    cameras = trajectory(path, first, arguments.views, object_radius=radius)[None]
    return [Job(arguments.image[0].stem, source, cameras)]


def data_jobs(config: "RunConfig", arguments: argparse.Namespace) -> list["Job"]:
    """Objects of a data set."""
    from data.selection import choose_objects, data_job, parse_views
    from data.sets import open_split

    views = parse_views(arguments.cond_views) if arguments.cond_views else None
    objects = open_split(config.data, arguments.split)
    path, radius = arguments.trajectory, config.data.object_radius
    return [
        data_job(objects, index, views=views, path=path, num=arguments.views, object_radius=radius)
        for index in choose_objects(objects, num=arguments.n or 1, names=arguments.object)
    ]


def output_folders(config: "RunConfig", arguments: argparse.Namespace, jobs: list["Job"]) -> list[Path]:
    """Where the files of each object belong."""
    if arguments.output is not None and len(jobs) == 1:
        return [arguments.output]
    parent = Path("samples") / config.name if arguments.output is None else arguments.output
    return [parent / job.name for job in jobs]


def _check_combinations(arguments: argparse.Namespace) -> None:
    """Raise ValueError where flags contradict each other."""
    photos = arguments.image is not None
    chosen = [name for name in ("data", "n", "object", "cond_views") if getattr(arguments, name) is not None]
    if photos and chosen:
        flag = chosen[0].replace("_", "-")
        raise ValueError(f"--{flag} is for data sets and --image for photos; give only one")
    if photos and not arguments.camera:
        raise ValueError("--image needs --camera FILE: a 4x4 camera-to-world matrix, or a transforms.json")
    if not photos and (arguments.camera or arguments.intrinsics):
        raise ValueError("--camera and --intrinsics describe photos; give those with --image")
    if photos and arguments.trajectory == "data":
        raise ValueError("--trajectory data needs a data set; choose another trajectory for photos")
    if arguments.n is not None and arguments.object:
        raise ValueError("--n counts objects and --object names them; give only one")
    if "/" in arguments.prefix or "\\" in arguments.prefix:
        raise ValueError(f"--prefix {arguments.prefix}: begins file names; name folders with --output")


def _number(kind: type, least: float, most: float) -> Callable[[str], float]:
    """Reads numbers from `least` to `most`."""

    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
