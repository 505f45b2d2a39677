"""The embedded sets of videos: a camera flies round each procedural car, or textures move."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.files import whole_folder
from data.formats.srn.writer import DISTANCE, INTRINSICS, claim_root
from data.formats.videos.objects import MARK
from data.shapes.shifting_textures import shifting_texture
from scripts.common.process_pool import available_cores, run_each
from scripts.common.progress import progress_bar
from scripts.common.shapes_set import ShapesOptions

TRUTH = "cameras.json"  # beside the frames, only for evaluation: no model reads it
SPEED_DEG = (4.0, 9.0)  # turn from frame to frame, in either direction
ELEVATION_DEG = (10.0, 35.0)
CLIMB_DEG = 15.0  # largest change of elevation over a video


def make_videos(root: Path, options: ShapesOptions, *, kind: str, workers: int | None = None) -> None:
    """Write ROOT/train and ROOT/val, a folder of frames for each object; `options.views` frames each.

    Videos of the kind "videos" are flights around cars, those of the kind "shifts" moving textures.

    Raises ValueError if `root` has another data set, and OSError if it cannot be written.
    """
    claim_root(root, asdict(options) | {"layout": kind}, option="--root")
    (root / MARK).write_text("{}\n")
    tasks = []
    for object_id in range(options.objects + options.val):
        folder = root / ("train" if object_id < options.objects else "val") / f"{object_id:06d}"
        if not folder.is_dir():
            tasks.append((folder, object_id, options, kind))
    count = available_cores() if workers is None else workers
    with progress_bar(total=len(tasks), unit="video", disable=not tasks) as bar:
        for _, result in run_each(_write_video, tasks, workers=0 if count == 1 or len(tasks) < 2 else count):
            if isinstance(result, Exception):
                raise result
            bar.update()


def flight(num: int, random: np.random.Generator) -> Float[ndarray, "v 4 4"]:
    """Camera-to-world matrices of a flight round the origin at steady speed that climbs or sinks a little."""
    from data.meshes.ray_casting import look_at_origin

    speed = math.radians(random.uniform(*SPEED_DEG)) * random.choice([-1, 1])
    azimuth = random.uniform(0, 2 * math.pi) + speed * np.arange(num)
    climb = random.uniform(-CLIMB_DEG, CLIMB_DEG)
    elevation = np.radians(random.uniform(*ELEVATION_DEG) + climb * np.linspace(-0.5, 0.5, num))
    flat = np.cos(elevation)
    places = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
    return np.stack([look_at_origin(DISTANCE * place) for place in places])


def render_car(object_id: int, poses: Float[ndarray, "v 4 4"], size: int) -> list[ndarray]:
    """Pictures of a car from cameras with the intrinsics of the set, uint8 [size size 3]."""
    from data.meshes.ray_casting import render_views
    from data.shapes.cars import car

    views = render_views(car(object_id), poses, intrinsics=INTRINSICS, height=size, width=size)
    return [view.rgb for view in views]


def _write_video(folder: Path, object_id: int, options: ShapesOptions, kind: str) -> None:
    from PIL import Image

    if kind == "shifts":
        pictures, truth = shifting_texture(object_id, options.views, options.size), None
    else:
        poses = flight(options.views, np.random.default_rng((options.seed, object_id)))
        pictures = render_car(object_id, poses, options.size)
        truth = {"object": object_id, "size": options.size, "cam_to_world": poses.tolist()}
    with whole_folder(folder) as unfinished:
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(unfinished / f"{number:04d}.png")
        if truth is not None:
            (unfinished / TRUTH).write_text(json.dumps(truth))
