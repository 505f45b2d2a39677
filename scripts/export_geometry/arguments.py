"""The command line of scripts.export_geometry. Imports nothing slow."""

import argparse
from pathlib import Path

from data.mesh_options import AXES
from scripts.common.command_line import OneLineParser, number_between
from scripts.export_geometry.request import SURFACES, CloudRequest, ExportRequest, TruthRequest
from scripts.sampling.arguments import add_subject, subject_request

DESCRIPTION = "Export the geometry of an object's volume as a coloured mesh and a point cloud."
HELP = """\
examples:
  python -m scripts.export_geometry runs/quickstart
  python -m scripts.export_geometry runs/quickstart --cond-views 0 8 16 --resolution 192 --output car
  python -m scripts.export_geometry runs/quickstart --image photo.png --elevation 20
  python -m scripts.export_geometry runs/quickstart --film samples/quickstart/000200_delivery
  python -m scripts.export_geometry runs/quickstart --n 20 --truth shapes
  python -m scripts.export_geometry runs/srn_cars_64 --data sets/meshes --n 5 --truth /data/meshes

files, in samples/RUN/OBJECT or in --output:
  mesh.glb    closed surface with vertex colours, by the glTF standard (y up, front towards z, linear colours)
  cloud.ply   points with colours (binary; in world axes: z up, front towards -x; sRGB colours)

surfaces:
  shade    where a share (--level, default 0.6) of the light from all sides is occluded (the default). This
           finds the outside of fog, which volumes are after a few hours of training or less. Notches and
           hollows in which less than 1 - level of all directions are open (straight edges below 144 degrees,
           at 0.6) are filled, even if the volume is sharp; a higher level fills less.
  density  where the density per scene unit is --level (default: at which one grid step absorbs half the
           light). For models with sharp volumes.
point clouds:
  depth    expected end points of the rays of --cameras cameras all around that are at least --opacity opaque
           (the default)
  mesh     --points points distributed over the mesh by area

More source views (--cond-views, several --image) improve the shape if the model was trained with several.
--film adds views of the object sampled by sample_views.py. Volumes extend to the edges of the source images
and are limited to a sphere around the origin.

--truth compares with true meshes: 'shapes' are the procedural cars of scripts.make_shapes, regenerated from
their names; PATH has the meshes (or one of them) that scripts.render_meshes rendered for the data set. The
Chamfer distance is the mean over both directions of the mean distance from points on one surface to the
nearest point on the other (not squared), in thousandths of a scene unit; F-scores use thresholds of 0.01 and
0.02 scene units, in percent. 20000 points are distributed by area over the parts of a mesh that are visible
from outside; of point clouds, as many random points are used. Means over objects, with standard errors. The
baselines are: a plane through the origin with the true silhouette, an ellipsoid of the mean size of training
objects, another training object, and the truth itself with other points. An object that fails is reported and
left out of figures, table and picture.

Exit codes: 0 done, 2 bad input or an object that failed, 130 interrupted.
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.export_geometry",
        description=DESCRIPTION,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("transfer", metavar="RUN", help="run such as runs/NAME, a checkpoint, or genvs.pt")
    add_subject(parser, "the first N objects of the split (default: 1)")
    add("--film", type=Path, metavar="FOLDER", help="output of sample_views.py, as further sources")

    add = parser.add_argument_group("surface").add_argument
    add("--surface", choices=SURFACES, default="shade", help="see below (default: shade)")
    add("--level", type=number_between(float, 1e-6, 1e6), metavar="X", help="see below")
    whole = number_between(int, 16, 384)
    add("--resolution", type=whole, default=128, metavar="N", help="grid points per side (default: 128)")
    add("--largest", action="store_true", help="keep only the largest of several pieces")
    help = "iterations of smoothing without shrinkage (default: 0)"
    add("--smooth", type=number_between(int, 0, 1000), default=0, metavar="N", help=help)

    add = parser.add_argument_group("point cloud").add_argument
    add("--cloud", choices=("depth", "mesh"), default="depth", help="see below (default: depth)")
    help = "around the object, for --cloud depth (default: 96)"
    add("--cameras", type=number_between(int, 1, 10_000), default=96, metavar="N", help=help)
    help = "minimum opacity of a ray, 0 to 1 (default: 0.5)"
    add("--opacity", type=number_between(float, 0.01, 1), default=0.5, metavar="X", help=help)
    help = "for --cloud mesh (default: 30000)"
    add("--points", type=number_between(int, 1, 10**7), default=30_000, metavar="N", help=help)

    add = parser.add_argument_group("truth").add_argument
    add("--truth", metavar="WHAT", help="'shapes', or PATH of meshes; see below")
    add("--up", choices=AXES, help="of the meshes, as for scripts.render_meshes")
    add("--front", choices=AXES, help="of the meshes; write --front=-y")
    add("--figures", type=Path, metavar="FILE", help="also write the figures of each object as JSON")

    add = parser.add_argument_group("output").add_argument
    help = "default: samples/RUN/OBJECT; with several objects, each has a folder inside"
    add("--output", type=Path, metavar="FOLDER", help=help)
    help = "also write a PNG with photos, truth, mesh and cloud side by side"
    add("--picture", type=Path, metavar="FILE", help=help)
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    return parser


def export_request(arguments: argparse.Namespace) -> ExportRequest:
    """The request that the parsed command line describes. Raises ValueError if flags conflict."""
    if arguments.truth is None and (arguments.figures or arguments.up or arguments.front):
        raise ValueError("--figures, --up and --front need --truth; give it, too")
    truth = None
    if arguments.truth is not None:
        truth = TruthRequest(arguments.truth, arguments.up, arguments.front, arguments.figures)
    return ExportRequest(
        checkpoint=arguments.transfer,
        subject=subject_request(arguments),
        film=arguments.film,
        surface=arguments.surface,
        level=arguments.level,
        resolution=arguments.resolution,
        largest=arguments.largest,
        smooth=arguments.smooth,
        cloud=CloudRequest(arguments.cloud, arguments.cameras, arguments.opacity, arguments.points),
        truth=truth,
        output=arguments.output,
        picture=arguments.picture,
        device=arguments.device,
    )
