"""The command line of scripts.export_geometry. Imports nothing that takes time."""

import argparse
from pathlib import Path

from scripts.common.command_line import OneLineParser, number_between
from scripts.export_geometry.request import CloudRequest, ExportRequest, TruthRequest
from scripts.sampling.arguments import add_subject, subject_request

DESCRIPTION = "Write what a model knows of an object's shape as files: a coloured mesh and a point cloud."
HELP = """\
examples:
  python -m scripts.export_geometry runs/quickstart
  python -m scripts.export_geometry runs/quickstart --cond-views 0 8 16 --resolution 192 --output car
  python -m scripts.export_geometry runs/quickstart --image photo.png --elevation 20
  python -m scripts.export_geometry runs/quickstart --film samples/quickstart/000200_delivery
  python -m scripts.export_geometry runs/quickstart --n 20 --truth shapes
  python -m scripts.export_geometry runs/srn_cars_64 --data sets/meshes --n 5 --truth /data/meshes

files, in samples/RUN/OBJECT or in --output:
  mesh.glb    closed surface with colours; axes (y up, front towards z) and colours (linear) as glTF has them
  cloud.ply   points with colours (binary; z up and front towards -x as in our worlds, sRGB)

surfaces:
  shade    where of the light from all sides a share (--level, default 0.6) no longer arrives. This finds the
           outside of a fog, and models trained for hours or less know objects as fog. The default. Notches
           and hollows that leave open less than 1 - level of all directions (144 degrees of a straight edge,
           at 0.6) are filled, even where the volume is sharp; a higher level fills less.
  density  where the density per scene unit is --level. Default: that of which a step from one point of the
           lattice to the next takes half the light. For models with sharp volumes.
point clouds:
  depth    where rays of --cameras all round end on average, of rays that are --opacity opaque. The default.
  mesh     --points points spread over the mesh by area

More source views (--cond-views, several --image) know more of the shape than one, where the model was trained
to unite several. --film adds views that sample_views.py has drawn of the object. Volumes reach to the edges
of the source pictures and fill a sphere round the origin; beyond, there is nothing.

--truth measures: shapes are the procedural cars of scripts.make_shapes, made anew from their names; a PATH
holds the meshes from which scripts.render_meshes drew the data set (or one of their names). Chamfer distance
is the mean, over both directions, of the mean distance from points of the one surface to the nearest point of
the other (plain, not squared), in thousandths of a scene unit; F-scores are of points within 0.01 and 0.02
scene units, in percent. 20000 points are spread by area over what can be seen of a mesh from far away, so
that nothing inside counts; of point clouds, as many are taken at random. Means over the objects, with their
standard errors. Beside it stand: the right silhouette as a flat picture through the origin, an ellipsoid as
large as the mean training object, another training object, and the truth itself in other points. An object
that fails is left out, with a line that says why; figures, table and picture are of the others.

Exit codes: 0 done, 2 bad input or an object that failed, 130 interrupted.
"""
SURFACES = ("shade", "density")  # those of scripts/export_geometry/extraction.py, which takes time to import
AXES = ("x", "y", "z", "-x", "-y", "-z")


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
    add("--film", type=Path, metavar="FOLDER", help="of sample_views.py: its views are sources, too")

    add = parser.add_argument_group("surface").add_argument
    add("--surface", choices=SURFACES, default="shade", help="see below (default: shade)")
    add("--level", type=number_between(float, 1e-6, 1e6), metavar="X", help="see below")
    whole = number_between(int, 16, 384)
    add("--resolution", type=whole, default=128, metavar="N", help="of the lattice, a side (default: 128)")
    add("--largest", action="store_true", help="only the largest of several pieces")
    help = "rounds of smoothing, which shrink nothing (default: 0)"
    add("--smooth", type=number_between(int, 0, 1000), default=0, metavar="N", help=help)

    add = parser.add_argument_group("point cloud").add_argument
    add("--cloud", choices=("depth", "mesh"), default="depth", help="see below (default: depth)")
    help = "round the object, of --cloud depth (default: 96)"
    add("--cameras", type=number_between(int, 1, 10_000), default=96, metavar="N", help=help)
    help = "least opacity of a ray, 0 to 1 (default: 0.5)"
    add("--opacity", type=number_between(float, 0.01, 1), default=0.5, metavar="X", help=help)
    help = "of --cloud mesh (default: 30000)"
    add("--points", type=number_between(int, 1, 10**7), default=30_000, metavar="N", help=help)

    add = parser.add_argument_group("truth").add_argument
    add("--truth", metavar="WHAT", help="'shapes', or PATH of meshes; see below")
    add("--up", choices=AXES, help="of the meshes, as of scripts.render_meshes")
    add("--front", choices=AXES, help="of the meshes; write --front=-y")
    add("--figures", type=Path, metavar="FILE", help="also write the figures of each object as JSON")

    add = parser.add_argument_group("what to write").add_argument
    help = "default: samples/RUN/OBJECT; of several objects, each has its own folder in it"
    add("--output", type=Path, metavar="FOLDER", help=help)
    help = "also draw photos, truth, mesh and cloud side by side into a PNG"
    add("--picture", type=Path, metavar="FILE", help=help)
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    return parser


def export_request(arguments: argparse.Namespace) -> ExportRequest:
    """What the parsed command line asks for. Raises ValueError where flags contradict each other."""
    if arguments.truth is None and (arguments.figures or arguments.up or arguments.front):
        raise ValueError("--figures, --up and --front go with --truth; give that, too")
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
