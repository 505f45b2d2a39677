"""The embedded set in DTU's layout: procedural cars, rendered at cameras like DTU's under two lightings."""

from dataclasses import asdict
from pathlib import Path

from data.formats.srn.writer import claim_root, write_contact_sheet
from scripts.common.process_pool import available_cores, run_each
from scripts.common.progress import progress_bar
from scripts.common.shapes_set import ShapesOptions

VIEWS = (49, 64)  # pictures of a scene
LAMPS_DEG = {"3": 20.0, "0": -70.0}  # azimuths of the lamps, by lighting


def make_dtu(root: Path, options: ShapesOptions, *, workers: int | None = None) -> None:
    """Write `options.objects` of the usual training scenes and `options.val` test scenes, those with masks.

    Pictures are `options.size` wide, and three quarters as high. Raises ValueError where the options do not
    suit or `root` holds another data set, and OSError where it cannot be written.
    """
    from data.formats.dtu.objects import PICTURES
    from data.formats.dtu.selection import TEST_SCENES, TRAIN_SCENES, picture_name
    from data.formats.dtu.writer import write_calibrations
    from data.meshes.datasets.dtu_cameras import dtu_poses

    # What DTU has is the limit.
    if options.views not in VIEWS:
        raise ValueError(f"views is {options.views}; the layout dtu has 49 or 64 views of every scene")
    if options.size % 4:
        raise ValueError(
            f"size is {options.size}; the pictures of the layout dtu are 4 : 3, so give a multiple of 4"
        )
    for name, count, most in (
        ("objects", options.objects, len(TRAIN_SCENES)),
        ("val", options.val, len(TEST_SCENES)),
    ):
        if count > most:
            raise ValueError(
                f"{name} is {count}; the layout dtu has {most} such scenes, so give at most that many"
            )

    # A car for each scene that is not there yet.
    claim_root(root, asdict(options) | {"layout": "dtu"}, option="--root")
    write_calibrations(root, dtu_poses())
    scenes = [*TRAIN_SCENES[: options.objects], *TEST_SCENES[: options.val]]
    tasks = [
        (root, f"scan{scan}", options.first + number, options, number >= options.objects)
        for number, scan in enumerate(scenes)
        if not (root / PICTURES / f"scan{scan}").is_dir()
    ]
    count = available_cores() if workers is None else workers
    with progress_bar(total=len(tasks), unit="scene", disable=not tasks) as bar:
        for _, result in run_each(_write_scene, tasks, workers=0 if count == 1 or len(tasks) < 2 else count):
            if isinstance(result, Exception):
                raise result
            bar.update()
    write_contact_sheet(root / "contact_sheet.png", root / PICTURES, picture=picture_name(0, "3"))


def _write_scene(root: Path, scene: str, object_id: int, options: ShapesOptions, masks: bool) -> None:
    from data.formats.dtu.writer import INTRINSICS, write_scene
    from data.meshes.datasets.dtu_cameras import dtu_poses, lamp
    from data.meshes.ray_casting import render_views
    from data.shapes.cars import car

    mesh, poses = car(object_id), dtu_poses()[: options.views]
    size = {"height": options.size * 3 // 4, "width": options.size}
    views = {
        lighting: render_views(mesh, poses, intrinsics=INTRINSICS, lighting=lamp(azimuth), **size)
        for lighting, azimuth in LAMPS_DEG.items()
    }
    write_scene(root, scene, views, masks=masks)
