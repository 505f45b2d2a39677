"""The command line of sample_views.py. Imports nothing slow."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.cameras import trajectory_names
from models.sampling.names import ORDERS, POLICIES, PUBLISHED
from scripts.common.command_line import OneLineParser
from scripts.common.command_line import number_between as _number
from scripts.sampling.family_options import LEVELS, SAMPLING_OPTIONS, add_latent_options, preset_options
from scripts.sampling.request import AUTO, OWN_VIEWS, PhotoRequest, SampleRequest, SubjectRequest, parse_views

DESCRIPTION = (
    "Sample novel views of an object from a trained model: python sample_views.py --transfer RUN_OR_FILE"
)
HELP = """\
examples:
  python sample_views.py --transfer runs/quickstart
  python sample_views.py --transfer runs/srn_cars_128 --cond-views 64 104 --trajectory srn_test --progress
  python sample_views.py --transfer runs/srn_cars_128 --autoregressive --stochastic --n 5
  python sample_views.py --transfer runs/srn_cars_128 --trajectory srn_test --policy nearest --order outward
  python sample_views.py --transfer runs/srn_cars_128 --samples 8 --views 4
  python sample_views.py --transfer runs/srn_cars_128 --object 1a2b3c --trajectory data --steps 50
  python sample_views.py --transfer runs/srn_cars_128 --image photo.jpg --elevation 15 --trajectory circle
  python sample_views.py --transfer runs/srn_cars_128 --image car.png --camera pose.txt --trajectory circle

trajectories (by name: at the distance and with the intrinsics of the first conditioning view):
  spiral      two turns while the view rises from -10 to 60 degrees      40 views
  circle      one turn of the first conditioning view around the z axis  40 views
  turntable   one turn at an elevation of 20 degrees                     40 views
  srn_test    the SRN test spiral                                        251 views
  data        the object's own views other than the conditioning ones    all of them
  FILE.json   a path of python -m scripts.view, with its own intrinsics, or all cameras of a transforms.json

samplers: euler, heun, dpm_2 (deterministic, or with churn if --stochastic); lms, dpmpp_2m (deterministic);
  euler_ancestral, dpm_2_ancestral, dpmpp_2s_ancestral, dpmpp_sde, dpmpp_2m_sde, dpmpp_3m_sde (stochastic).
  --stochastic alone replaces a sampler that has no stochastic variant by dpmpp_2m_sde.

files in the output folder, each starting with --prefix:
  cond_00.png ...    conditioning views     views.mp4        the views, with previews below
  view_0000.png ...  the views              sheet.png        contact sheet of all views
  preview_0000.png   without diffusion      progress.mp4     the denoising of the first views (--progress)
  depth_0000.png     dark near, light far   transforms.json  cameras of the views (nerfstudio, OpenGL axes)
  photo_00.png       photos after framing   sampling.json    the settings of the views
  depth16_0000.png   depth of the volume's surface, 16 bits of depth_unit_scale_factor (transforms.json) scene
                     units, usually 1/10000; 0 where it is less than half opaque
  weights_0000.png   of models that weigh their inputs: the share of each in every pixel, white: all
  steps_0000.png     of the same models: the view as estimated in up to 8 denoising steps before the last
  weights.mp4        conditioning views above their weights; below them those estimates, the view, and the
                     data set's own view from there, if it has one
  draft_0000.png     the views before --refine-jointly
  sample_0000_01.png ...  other samples of a view (--samples); spread_mean_0000.png and spread_std_0000.png
                     are their mean and standard deviation, with a colour bar in 8-bit levels

policies (each view is also conditioned on the conditioning views):
  published   --context-views random earlier views (default: 4) and the last one; same as --autoregressive
  nearest     the --context-views views nearest in camera angle (default: 4)
  all         all earlier views; memory and time grow with their number
  budget      at most --context-views volumes (default: 12), including the conditioning views: the last view
              and, once there are too many, evenly spaced earlier ones

photos: any size, aspect ratio and format that Pillow reads, oriented by EXIF. The object should be on a white
  or transparent background, or have a --mask (white: object), or be cut out by a small network (--cut-out;
  installed by make photos). If the photo shows other objects, mark the object by --box, in pixels of the
  upright photo, four numbers for each photo: left, top, right, bottom.
  Without --camera, a photo is framed like the training data: the object in the middle of a white square, with
  the larger side of its bounding box 0.63 of the square's (--fill). Its camera is set by --elevation above
  the ground, --azimuth around the object (0: from the x axis), --distance and --focal. Check the result in
  photo_00.png, which with --cut-out also shows the photo. With --camera, a photo is not reframed, and padded
  with white to a square. --elevation auto and --azimuth auto estimate an angle from similar training views;
  they need the training data (if it has moved, give --data), with all objects in the same orientation
  (docs/pose_of_a_photo.md).

Cameras are camera-to-world in OpenCV axes (x right, y down, z forward); the world's z axis is up and the
object is at the origin, about as far from the camera as in training. A view depends on --seed, the object
and the number of the view, not on --batch. With a policy, views are sampled one by one, each conditioned on
earlier ones as read back from their 8-bit files.
Ctrl-C keeps the finished images, and the same command resumes: finished views are not sampled again.
Exit codes: 0 done, 2 bad input, 130 interrupted.
"""
# Options of photos without cameras.
FRAMING = ("elevation", "azimuth", "distance", "focal", "mask", "cut_out", "box", "fill")
TRAJECTORIES = (*trajectory_names.TRAJECTORIES, OWN_VIEWS)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="sample_views.py",
        description=DESCRIPTION,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add, whole = parser.add_argument, _number(int, 1, 100_000)
    add("--transfer", required=True, metavar="PATH", help="run such as runs/NAME, a checkpoint, or genvs.pt")

    add_subject(parser, "the first N objects of the split (default: 1)")

    add = parser.add_argument_group("views").add_argument
    add("--trajectory", type=_trajectory, default="spiral", metavar="NAME", help="default: spiral")
    help = "driving video, a file or a folder of frames, whose poses are used (families without cameras)"
    add("--drive", type=Path, metavar="VIDEO", help=help)
    add("--views", type=whole, metavar="N", help="views of the trajectory (default: see below)")
    help = "samples of each view (default: 1)"
    add("--samples", type=_number(int, 1, 99), default=1, metavar="N", help=help)

    add = parser.add_argument_group("consistency (default: independent views)").add_argument
    add("--autoregressive", action="store_true", help="condition each view on earlier ones")
    add("--policy", choices=POLICIES, help="which ones (default with --autoregressive: published)")
    add("--context-views", "--look-at", type=whole, metavar="N", help="how many; see below")
    help = "path: along the trajectory (default); outward: from the input outward"
    add("--order", choices=ORDERS, help=help)
    add("--same-noise", action="store_true", help="use the same noise for all views of an object")
    help = "denoise each view again, jointly with its N - 1 nearest neighbours on all sides"
    add("--refine-jointly", "--joint", type=_number(int, 2, 1000), metavar="N", help=help)
    help = "initial noise level of --refine-jointly (default: 1; images are in [-1, 1])"
    add("--refine-sigma", "--joint-sigma", type=_number(float, 0.001, 1000), metavar="X", help=help)

    add = parser.add_argument_group("sampling (default: the options of the run)").add_argument
    add("--sampler", metavar="NAME", help="see below")
    add("--steps", type=_number(int, 2, 10_000), metavar="N", help="denoising steps")
    help = "1: none; higher: closer to the input"
    add("--guidance", "--cfg", type=_number(float, -100, 100), metavar="X", help=help)
    add("--stochastic", action="store_true", help="add noise while sampling")
    add("--unconditional", action="store_true", help="ignore the conditioning views")
    help = "noise levels of the steps: karras, or others of the model: training (those of its training), "
    help += "linear_t (evenly spaced in its time)"
    add("--levels", choices=LEVELS, help=help)
    help = 'text to draw, with slots for what was learned, such as "{view}. A red {object}" (where it can be)'
    add("--prompt", metavar="TEXT", help=help)
    add("--scene", metavar="ID", help="the learned object to draw, of models that know several by name")
    add_latent_options(parser)
    add = parser.add_argument_group("randomness and machine").add_argument
    add("--seed", type=_number(int, 0, 2**63 - 1), default=0, metavar="N", help="default: 0")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--batch", type=whole, default=4, metavar="N", help="views per batch (default: 4)")

    _add_output(parser)
    return parser


def add_subject(parser: argparse.ArgumentParser, several: str) -> None:
    """Add options for the input; `several` is the help of --n."""
    whole = _number(int, 1, 100_000)
    add = parser.add_argument_group("input").add_argument
    add("--data", metavar="ROOT", help="data set of any layout (default: the training data)")
    add("--split", default="test", choices=("train", "val", "test"), help="of the data set (default: test)")
    add("--n", type=whole, metavar="N", help=several)
    add("--object", nargs="+", metavar="ID", help="these objects instead")
    help = "conditioning views, counted from 0 (default: 64, or 0 if there are fewer)"
    add("--cond-views", nargs="+", metavar="VIEW", help=help)
    add("--image", nargs="+", type=Path, metavar="PHOTO", help="photos of one object instead of a data set")
    add("--camera", nargs="+", type=Path, metavar="FILE", help="4x4 pose of each photo, or transforms.json")
    help = "of all photos, in the SRN format (default: SRN cars)"
    add("--intrinsics", type=Path, metavar="FILE", help=help)

    title = "photos without --camera (for several: one value for all, or one for each)"
    add = parser.add_argument_group(title).add_argument
    positive, share = _number(float, 0.01, 1000), _number(float, 0.05, 1)
    help = "in degrees, or auto: estimate it from training views (default: 20)"
    add("--elevation", nargs="+", type=_angle(90), metavar="DEG", help=help)
    help = "in degrees, or auto (default: 0; for several photos, one for each)"
    add("--azimuth", nargs="+", type=_angle(360), metavar="DEG", help=help)
    add("--distance", type=positive, metavar="X", help="scene units from the origin (default: 1.3, SRN cars)")
    help = "focal length of the square, in its widths (default: 1.0254, SRN cars)"
    add("--focal", type=positive, metavar="X", help=help)
    add("--mask", nargs="+", type=Path, metavar="FILE", help="for each photo, white for the object")
    help = "remove the background (needs: make photos)"
    add("--cut-out", action="store_true", default=None, help=help)
    help = "X0 Y0 X1 Y1 in each upright photo: everything outside is background"
    add("--box", nargs="+", action="extend", type=_number(int, 0, 10**6), metavar="PIXEL", help=help)
    help = "share of the square that the object fills (default: 0.63, training data)"
    add("--fill", type=share, metavar="X", help=help)


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("output").add_argument
    help = "default: samples/RUN/OBJECT; with several objects, each has a folder inside"
    add("--output", type=Path, metavar="FOLDER", help=help)
    add("--prefix", default="", metavar="TEXT", help="prefix of all file names")
    add("--progress", action="store_true", help="also write a video of the denoising steps")
    help = "frames per second of videos (default: 10)"
    add("--fps", type=_number(float, 0.1, 240), default=10.0, metavar="X", help=help)


def sample_request(arguments: argparse.Namespace) -> SampleRequest:
    """The request that the parsed command line describes. Raises ValueError if flags conflict."""
    options = sampling_options(arguments)
    if arguments.unconditional:
        options = {"guidance": 1.0} | options | {"unconditional": True}
    return SampleRequest(
        checkpoint=arguments.transfer,
        subject=subject_request(arguments),
        trajectory=arguments.trajectory,
        drive=arguments.drive,
        num_views=arguments.views,
        num_samples=arguments.samples,
        policy=arguments.policy or (PUBLISHED if arguments.autoregressive else None),
        num_context=arguments.context_views,
        order=arguments.order,
        same_noise=arguments.same_noise,
        refine_window=arguments.refine_jointly,
        refine_sigma=arguments.refine_sigma,
        options=options,
        stochastic=arguments.stochastic,
        seed=arguments.seed,
        device=arguments.device,
        batch=arguments.batch,
        output=arguments.output,
        prefix=arguments.prefix,
        progress=arguments.progress,
        fps=arguments.fps,
    )


def sampling_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The run's sampling options that a preset or flags with a value override; flags take precedence."""
    given = {name: getattr(arguments, name, None) for name in SAMPLING_OPTIONS}
    chosen = {name: value for name, value in given.items() if value is not None}
    preset = preset_options(arguments.preset, stochastic=getattr(arguments, "stochastic", False))
    return preset | chosen


def subject_request(arguments: argparse.Namespace) -> SubjectRequest:
    """The input that the options of `add_subject` describe. Raises ValueError if they contradict."""
    if arguments.image is None and (arguments.camera or arguments.intrinsics):
        raise ValueError("--camera and --intrinsics describe photos; give those with --image")
    framing = [f"--{name.replace('_', '-')}" for name in FRAMING if getattr(arguments, name) is not None]
    if framing and arguments.image is None:
        raise ValueError(f"{framing[0]} is for photos without --camera; leave one of them out")
    views, names = arguments.cond_views, arguments.object
    return SubjectRequest(
        data=arguments.data,
        split=arguments.split,
        num=arguments.n,
        names=tuple(names) if names else None,
        source_views=tuple(parse_views(views)) if views else None,
        photos=None if arguments.image is None else _photo_request(arguments),
    )


def _photo_request(arguments: argparse.Namespace) -> PhotoRequest:
    def several(values: list | None) -> tuple:
        return tuple(values or ())

    return PhotoRequest(
        images=several(arguments.image),
        cameras=several(arguments.camera),
        intrinsics=arguments.intrinsics,
        elevations_deg=several(arguments.elevation) or None,
        azimuths_deg=several(arguments.azimuth) or None,
        distance=arguments.distance,
        focal=arguments.focal,
        masks=several(arguments.mask),
        cut_out=bool(arguments.cut_out),
        boxes=_boxes(arguments.box or [], len(arguments.image)),
        fill=arguments.fill,
    )


def _boxes(numbers: list[int], num_photos: int) -> tuple[tuple[int, ...], ...]:
    """Four numbers for each photo. Raises ValueError if there are too few or many."""
    if numbers and len(numbers) != 4 * num_photos:
        raise ValueError(
            f"--box has {len(numbers)} numbers, not 4 for each --image; give X0 Y0 X1 Y1 of each"
        )
    return tuple(tuple(numbers[start : start + 4]) for start in range(0, len(numbers), 4))


def _angle(largest: float) -> Callable[[str], float | str]:
    """An argument type: degrees from -largest to largest, or auto."""
    degrees = _number(float, -largest, largest)

    def angle(text: str) -> float | str:
        return AUTO if text == AUTO else degrees(text)

    return angle


def _trajectory(text: str) -> str:
    """An argument type: the name of a trajectory or a path file."""
    if text not in TRAJECTORIES and not text.endswith(".json"):
        names = ", ".join(TRAJECTORIES)
        raise argparse.ArgumentTypeError(
            f"{text} is no trajectory; choose one of {names}, or a path file (.json)"
        )
    return text
