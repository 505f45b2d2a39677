"""Where a model that weighs its inputs looks: the weight of input views that see a part, and of others.

    python -m scripts.weights_by_visibility runs/NAME --output weights.png

For the embedded cars (scripts.make_shapes), whose shape is known: each pixel of a target view is a point of
the car, which an input view sees, or sees only in the car's mirror image (the same part of the other side),
or does not see. The table has the mean weight of each kind of view in pixels for which views differ.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.command_line import OneLineParser

if TYPE_CHECKING:  # heavy modules are imported where they are used, so that --help is fast
    from torch import Tensor

    from data.cameras.pinhole import Cameras
    from data.meshes.mesh import Mesh
    from data.scenes.batch import Views
    from data.scenes.objects import Objects
    from models.base import NVSModel

KINDS = ("sees the part", "sees its mirror image only", "sees neither")
FINER = 4  # depth images are so much finer than views
TOLERANCE = 0.005  # scene units by which depths of one point may differ; a car's diagonal is 1
NUMBER = re.compile(r"(?:.*_)?(\d{6})_\w+")


@dataclass(frozen=True)
class Case:
    """A car with target views: weights of its inputs, and what each input sees."""

    source: "Views"  # [1, s]
    truth: "Tensor"  # [t 3 h w], -1 to 1
    images: "Tensor"  # [t 3 h w], the samples
    weights: "Tensor"  # [t s h w], mean over colours
    kinds: "Tensor"  # [t s h w], indices of KINDS
    surface: "Tensor"  # [t h w], whether the pixel is of the car


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        text = weights_by_visibility(arguments)
    except (ValueError, OSError) as error:
        print(f"weights_by_visibility: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.weights_by_visibility",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="run such as runs/NAME, or a checkpoint, trained on the embedded cars")
    add("--split", default="test", choices=("train", "val", "test"), help="default: %(default)s")
    add("--objects", type=int, metavar="N", help="the first N cars (default: all)")
    add("--inputs", type=int, default=6, metavar="N", help="random input views (default: %(default)s)")
    add("--targets", type=int, default=4, metavar="N", help="random target views (default: %(default)s)")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--output", type=Path, default=Path("weights.png"), metavar="PNG", help="default: %(default)s")
    return parser


def weights_by_visibility(arguments: argparse.Namespace) -> str:
    """Write the picture of the first car; returns the table, in Markdown."""
    from data.formats.registry import open_split
    from models.checkpoints.loading import load_model
    from models.device import choose_device, place

    model, config, _ = load_model(arguments.run)
    objects = open_split(config.data, arguments.split)
    num = len(objects) if arguments.objects is None else arguments.objects
    if not 1 <= num <= len(objects):
        raise ValueError(f"--objects {num}: the split has {len(objects)}; ask for 1 to that many")
    place(model, choose_device(arguments.device)).options = config.sample
    cases = [
        case_of(model, objects, index, arguments.inputs, arguments.targets, config.train.precision)
        for index in range(num)
    ]
    draw_case(cases[0], arguments.output)
    return table([mean_weights(case) for case in cases], arguments.inputs)


def case_of(
    model: "NVSModel", objects: "Objects", index: int, num_inputs: int, num_targets: int, precision: str
) -> Case:
    """A car with random views, the same in every call. Raises ValueError if it has too few, or no weights."""
    import torch

    from data.seeds import derived_seed
    from data.shapes.cars import car
    from models.device import autocast

    # The car, and its views.
    named = NUMBER.fullmatch(objects.ids[index])
    if not named:
        raise ValueError(
            f"{objects.ids[index]}: is no embedded car; give a run on a set of scripts.make_shapes"
        )
    count = objects.num_views(index)
    if num_inputs < 2 or num_targets < 1 or num_inputs + num_targets > count:
        raise ValueError(
            f"--inputs {num_inputs} --targets {num_targets}: {objects.ids[index]} has {count} views; ask for "
            "two or more inputs, and for no more views than there are"
        )
    generator = torch.Generator().manual_seed(derived_seed(0, objects.ids[index]) % 2**63)
    order = torch.randperm(count, generator=generator).tolist()
    target = objects.read_views(index, order[:num_targets])
    source = objects.read_views(index, order[num_targets : num_targets + num_inputs])

    # Samples, and their weights.
    device = model.device
    given = (part.apply(lambda tensor: tensor.to(device)) for part in (source, target.cameras))
    with torch.no_grad(), autocast(precision, device):
        prediction = model.sample(*given, torch.arange(num_targets)[None], model.options)
    if prediction.weights is None:
        raise ValueError(
            f"{objects.ids[index]}: the model has no weights of its inputs; give one that weighs them"
        )

    # What the inputs see of every pixel.
    mesh, size = car(int(named[1])), target.images.shape[-2:]
    depth = depth_images(mesh, target.cameras[0], size)
    fine = depth_images(mesh, source.cameras[0], (FINER * size[0], FINER * size[1]))
    points = [points_of(depth[place], target.cameras[0, place]) for place in range(num_targets)]
    kinds = torch.stack([kinds_of(each, source.cameras[0], fine) for each in points])
    weights = prediction.weights[0].float().mean(dim=2).cpu()
    images = prediction.images[0].float().cpu()
    return Case(source, target.images[0], images, weights, kinds.unflatten(-1, size), depth > 0)


def depth_images(mesh: "Mesh", cameras: "Cameras", size: tuple[int, int]) -> "Tensor":
    """Z-depth [v h w] of a mesh in scene units from cameras [v]; 0 for background."""
    import numpy as np
    import torch

    from data.meshes.ray_casting import render_views

    found = []
    for number in range(cameras.shape[0]):
        pose = cameras.cam_to_world[number].double().numpy()[None]
        intrinsics = cameras.intrinsics[number].double().numpy()
        (view,) = render_views(mesh, pose, intrinsics=intrinsics, height=size[0], width=size[1], samples=1)
        found.append(torch.from_numpy(np.asarray(view.depth)).float())
    return torch.stack(found)


def points_of(depth: "Tensor", camera: "Cameras") -> "Tensor":
    """The world points [r 3] of the pixels of a depth image [h w], row by row."""
    import torch

    from data.cameras.pinhole import pixel_centres

    places = torch.cat([pixel_centres(*depth.shape), depth.flatten()[:, None]], dim=1)
    return camera.unproject(places)


def kinds_of(points: "Tensor", cameras: "Cameras", depth: "Tensor") -> "Tensor":
    """What views from `cameras` [s] see of `points` [r 3]: indices [s r] of KINDS."""
    import torch

    seen = visible(points, cameras, depth)
    mirrored = visible(points * torch.tensor([1.0, -1.0, 1.0]), cameras, depth)
    return torch.where(seen, 0, torch.where(mirrored, 1, 2))


def visible(points: "Tensor", cameras: "Cameras", depth: "Tensor") -> "Tensor":
    """Whether `points` [r 3] on surfaces are seen from `cameras` [s] with `depth` images [s h w]: [s r]."""
    import torch

    height, width = depth.shape[1:]
    projected = cameras.project(points.expand(cameras.shape[0], -1, -1))
    column, row = (projected[..., :2] * torch.tensor([width, height])).floor().long().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    # The surface slopes within a pixel, so that its neighbours bound the depth there.
    farthest = torch.nn.functional.max_pool2d(depth[:, None], 3, stride=1, padding=1)
    nearest = farthest.flatten(1).gather(1, place)
    return inside & (nearest > 0) & (projected[..., 2] < nearest + TOLERANCE)


def mean_weights(case: Case) -> list[float]:
    """Mean weight of each kind of view, in pixels of the car that some views see and others do not.

    nan for a kind that there is not.
    """
    seen = case.kinds == 0
    mixed = case.surface & seen.any(dim=1) & ~seen.all(dim=1)
    chosen = [(case.kinds == kind) & mixed[:, None] for kind in range(len(KINDS))]
    return [float(case.weights[where].mean()) for where in chosen]


def table(cars: list[list[float]], num_inputs: int) -> str:
    """Mean weights over cars with standard errors, beside the weight if all views had the same."""
    import math

    from scripts.common.results import standard_error

    lines = ["| input view | weight | weight x views |", "|---|--:|--:|"]
    for kind, name in enumerate(KINDS):
        values = [car[kind] for car in cars if math.isfinite(car[kind])]
        if values:
            mean, error = sum(values) / len(values), standard_error(values)
            spread = "" if error is None else f" \u00b1 {error:.3f}"
            lines.append(f"| {name} | {mean:.3f}{spread} | {mean * num_inputs:.2f} |")
    note = f"{len(cars)} cars, {num_inputs} input views; if all had the same weight, {1 / num_inputs:.3f}."
    return "\n".join([*lines, "", note])


def draw_case(case: Case, path: Path) -> None:
    """Write a picture of the first target: inputs, their weights, and what they see of it."""
    import torch

    from data.images.display import colourise, enlarge, grid
    from data.images.files import write_png
    from data.images.pixels import to_uint8

    # Rows: truth and inputs; sample and weights; visibility.
    num, shade = case.weights.shape[1], case.surface[0]
    inputs = to_uint8(case.source.images[0])
    weights = colourise(case.weights[0], 0.0, min(1.0, 3.0 / num))
    sees = colourise((2 - case.kinds[0]).float() / 2, 0.0, 1.0)
    for picture in (weights, sees):
        picture[~shade.expand(num, -1, -1)] = 255
    blank = inputs.new_full((1, *inputs.shape[1:]), 255)
    first = [to_uint8(case.truth[:1]), to_uint8(case.images[:1]), blank]
    rows = [torch.cat(pair) for pair in zip(first, (inputs, weights, sees), strict=True)]
    write_png(path, enlarge(grid(torch.cat(rows), columns=num + 1), max(1, 96 // inputs.shape[1])))


if __name__ == "__main__":
    sys.exit(main())
