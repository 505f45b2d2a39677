"""Compare exported geometry and trivial baselines with true meshes. Lengths are in scene units."""

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.config import DataConfig
from data.formats.registry import open_split
from data.meshes.datasets.dataset import prepared
from data.meshes.mesh import Mesh
from data.meshes.primitives import ellipsoid
from data.meshes.ray_casting import render_meshes
from data.meshes.sources import find_meshes
from data.scenes.batch import Views
from data.seeds import derived_seed
from data.shapes.cars import car, car_style
from scripts.common.results import mean, write_json
from scripts.export_geometry.distance import Distance, distance, outer_points
from scripts.export_geometry.request import TruthRequest
from scripts.export_geometry.surfaces import PointCloud, Surface

SHAPE = re.compile(r"(\d+)_(\w+)")  # names of procedural cars
NUM_POINTS = 20_000  # on each surface
MEASURED = 50  # training objects whose mean size is used
SILHOUETTE = 256  # pixels


@dataclass(frozen=True)
class Truth:
    """True meshes by the names of objects, and the distances from them."""

    find: Callable[[str], Callable[[], Mesh]]  # raises ValueError if there is none of this name
    training: tuple[str, ...]  # names of training objects that have meshes
    figures: dict[str, dict[str, Distance]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def of(cls, data: DataConfig, request: TruthRequest, names: Sequence[str]) -> "Truth":
        """The meshes of a request, for the objects `names` of a data set.

        Raises ValueError if one of them is missing. If no training object has a mesh, prints a notice,
        because some baselines are then missing.
        """
        if request.meshes == "shapes":
            find = _shape
        else:
            known = {source.name: source for source in find_meshes(Path(request.meshes))}
            find = partial(_from_file, known, Path(request.meshes), request.up, request.front)
        for name in names:
            find(name)
        try:
            training, why = tuple(name for name in open_split(data, "train").ids if _known(find, name)), ""
        except ValueError as error:  # a set that only has held-out objects, or a damaged one
            training, why = (), f" ({error})"
        if not training:
            notice = f"no mesh of a training object is known{why}, so baselines that need one are left out"
            print(f"export_geometry: {notice}", file=sys.stderr)
        return cls(find, training)

    def mesh(self, name: str) -> Mesh:
        """The true mesh of an object. Raises ValueError if there is none, or it cannot be read."""
        return self.find(name)()

    def measure(self, name: str, true_mesh: Mesh, source: Views, surface: Surface, cloud: PointCloud) -> None:
        """Measure the distance of an object's geometry, and of the baselines, from the truth."""
        points = _points(true_mesh, seed=0)
        guesses = {
            "mesh": outer_points(surface.vertices, surface.faces, NUM_POINTS, seed=1),
            "point cloud": _some(cloud.points),
            "flat picture, right silhouette": _flat(true_mesh, source),
        }
        if self.training:
            guesses["ellipsoid of the mean size"] = self._mean_ellipsoid
        if others := [other for other in self.training if other != name]:
            other = others[derived_seed(0, name) % len(others)]
            guesses["another training object"] = _points(self.mesh(other), seed=1)
        guesses["the truth, in other points"] = _points(true_mesh, seed=1)
        for guess, found in guesses.items():
            self.figures[guess][name] = distance(found, points)

    def report(self, path: Path | None) -> list[str]:
        """The table of means, as Markdown; also writes all figures to a JSON file if `path` is given."""
        if path:
            write_json(
                path,
                {guess: {n: asdict(d) for n, d in found.items()} for guess, found in self.figures.items()},
            )
        lines = ["| | objects | Chamfer (1/1000) | F at 0.01 (%) | F at 0.02 (%) |", "|---|--:|--:|--:|--:|"]
        for guess, found in self.figures.items():
            figures = found.values()
            columns = [
                mean([1000 * each.chamfer for each in figures]),
                mean([100 * each.closer for each in figures]),
                mean([100 * each.close for each in figures]),
            ]
            lines.append(f"| {guess} | {len(found)} | {' | '.join(columns)} |")
        return lines

    @cached_property
    def _mean_ellipsoid(self) -> Float[ndarray, "n 3"]:
        sizes = [np.ptp(self.mesh(name).vertices, axis=0) for name in self.training[:MEASURED]]
        return _points(ellipsoid(np.zeros(3), np.mean(sizes, axis=0) / 2, (0, 0, 0), segments=48), seed=1)


def _known(find: Callable[[str], Callable[[], Mesh]], name: str) -> bool:
    try:
        find(name)
    except ValueError:
        return False
    return True


def _shape(name: str) -> Callable[[], Mesh]:
    matched = SHAPE.fullmatch(name)
    if not matched or car_style(int(matched[1])) != matched[2]:
        raise ValueError(
            f"{name}: is no procedural car of scripts.make_shapes; give the folder of its mesh with --truth"
        )
    return partial(car, int(matched[1]))


def _from_file(known: dict, place: Path, up: str | None, front: str | None, name: str) -> Callable[[], Mesh]:
    if name not in known:
        examples = ", ".join(sorted(known)[:3])
        raise ValueError(f"{place}: holds no mesh called {name}, but, for example, {examples}; give another")
    return lambda: prepared(known[name], up, front)[0]


def _points(mesh: Mesh, *, seed: int) -> Float[ndarray, "n 3"]:
    return outer_points(mesh.vertices, mesh.faces, NUM_POINTS, seed=seed)


def _some(points: Float[ndarray, "n 3"]) -> Float[ndarray, "m 3"]:
    """At most `NUM_POINTS` of the points, at random."""
    return np.random.default_rng(0).permutation(points)[:NUM_POINTS]


def _flat(mesh: Mesh, source: Views) -> Float[ndarray, "n 3"]:
    """The silhouette in the first source camera, on the plane through the origin that faces it."""
    camera = source.cameras[0, 0]
    drawn = render_meshes(
        mesh,
        camera.cam_to_world[None].double().numpy(),
        intrinsics=camera.intrinsics.double().numpy(),
        height=SILHOUETTE,
        width=SILHOUETTE,
        samples=1,
    )
    rows, columns = np.nonzero(drawn.alpha[0] > 127)
    depth = camera.to_camera(camera.positions.new_zeros(1, 3))[0, 2]
    places = np.stack([(columns + 0.5) / SILHOUETTE, (rows + 0.5) / SILHOUETTE], axis=1)
    on_plane = camera.near.new_tensor(np.column_stack([places, np.full(len(places), float(depth))]))
    return _some(camera.unproject(on_plane).double().numpy())
