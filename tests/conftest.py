"""Run-time checks of shapes and types for every test, threads, and a builder of SRN objects."""

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# Before any of these packages is imported: the hook cannot reach a module that is already loaded.
install_import_hook(["data", "nerf", "diffusion", "models", "config"], "beartype.beartype")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Exempt what the imports made from garbage collection, which the benchmark's tests request often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def plant_object() -> Callable[..., Path]:
    """plant_object(folder, num_views=4, size=(6, 6), surfaces=False): an SRN object of noise, (height, width)
    in pixels, on demand with depth and alpha."""
    return _plant_object


@pytest.fixture
def srn_root(tmp_path: Path) -> Path:
    """An SRN data set of 6 x 6 pixels: objects a (4 views) and bb (3) in cars_train, ccc (5) in cars_val."""
    for name, num_views in (("cars_train/a", 4), ("cars_train/bb", 3), ("cars_val/ccc", 5)):
        _plant_object(tmp_path / name, num_views=num_views)
    return tmp_path


@pytest.fixture
def write_recipe(tmp_path: Path, plant_object: Callable[..., Path]) -> Callable[..., Path]:
    """write_recipe(stages): a recipe of the tiniest model on three objects of noise, `scenes.STAGES` unless
    others are given."""
    from tests.scenes import STAGES, run_document

    for number, name in enumerate(("cars_train/a", "cars_train/bb", "cars_val/c")):
        plant_object(tmp_path / "data" / name, num_views=3 + number, size=(16, 16))

    def write(stages: object = STAGES, **changes: dict) -> Path:
        path = tmp_path / "tiny.json"
        document = run_document(tmp_path / "data", tmp_path / "runs", **changes)
        path.write_text(json.dumps(document | {"name": "tiny", "stages": stages}))
        return path

    return write


def _plant_object(
    folder: Path, *, num_views: int = 4, size: tuple[int, int] = (6, 6), surfaces: bool = False
) -> Path:
    from data.cameras.poses import srn_test_path

    height, width = size
    rng = np.random.RandomState(len(folder.name) + num_views)
    (folder / "rgb").mkdir(parents=True)
    (folder / "pose").mkdir()
    for view, pose in enumerate(srn_test_path(num_views)):
        pixels = rng.randint(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "rgb" / f"{view:06d}.png")
        for kind, values in (("depth", np.uint16), ("alpha", np.uint8)) if surfaces else ():
            (folder / kind).mkdir(exist_ok=True)
            numbers = rng.randint(0, np.iinfo(values).max + 1, (height, width), dtype=values)
            Image.fromarray(numbers).save(folder / kind / f"{view:06d}.png")
        # As in the wild: one line, a space at its end and no newline.
        text = " ".join(f"{number:.9g}" for number in pose.flatten().tolist())
        (folder / "pose" / f"{view:06d}.txt").write_text(f"{text} ")
    focal = 1.1 * width
    text = f"{focal} {width / 2} {height / 2} 0.\n0. 0. 0.\n1.\n{height} {width}"
    (folder / "intrinsics.txt").write_text(text)
    return folder
