"""Every command of the README, and of the pages that continue it, is run here at a small size, or started
this test."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
import trimesh

from config.families import family
from config.run import load_config
from models.checkpoints.format import Checkpoint
from models.checkpoints.published import pack
from nerf.volume import FrustumVolume
from tests.scenes import TINY_MODEL

ROOT = Path(__file__).parents[1]
PAGES = {  # up to the heading whose commands other tests run
    "README.md": None,
    "docs/training.md": "## Recipes",
    "docs/data.md": "## Layouts",
    "docs/sampling.md": None,
    "docs/published_weights.md": None,
    "docs/results.md": None,
    "docs/speed.md": None,
}
# `make test` runs this very test, after the installation that the README spells out.
DONE_BY_MAKE = {
    "make test",
    "python3 -m venv .venv",
    ".venv/bin/pip install -r requirements.txt",
    ". .venv/bin/activate",
}
SMALL_SET = ["--objects", "3", "--val", "2", "--views", "6", "--size", "32"]
SMALL_RUN = [
    *(f"model.{part}.{key}={json.dumps(value)}" for part in ("encoder", "renderer", "denoiser")
      for key, value in TINY_MODEL[part].items()),
    *("data.image_size=32", "data.workers=0", "train.steps=1", "train.batch=1", "sample.steps=2"),
    "train.preflight=false",
]  # fmt: skip
VIDEOS = {"spiral": 40, "turntable": 8, "circle": 8}


def text_of(page: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    return text.split(f"\n{PAGES[page]}\n")[0] if PAGES[page] else text


def commands_of(pages: Iterable[str]) -> list[str]:
    """Each command once, in the order of the pages."""
    text = "\n".join(map(text_of, pages))
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(filter(None, lines)))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A folder in which the README's relative paths lead somewhere."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("config", "train.py"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def published_weights(folder: Path) -> None:
    """A small genvs.pt, and published.json with the config that fits it."""
    changes = ["name=published", "data.root=data/embedded", *SMALL_RUN]
    config = load_config(ROOT / "config" / "srn_cars_128_published.json", changes)
    (folder / "published.json").write_text(config.model_dump_json())
    model = family(config.model.family)(config.model)
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save(pack(Checkpoint(folder, 5, {}, tensors), model), folder / "genvs.pt")


def meshes(folder: Path) -> None:
    """Three boxes in a folder `meshes`."""
    (folder / "meshes").mkdir()
    for number in range(3):
        trimesh.creation.box((1, 2, 3 + number)).export(folder / "meshes" / f"box{number}.glb")


def archive(name: str) -> None:
    """A split of the embedded set as its archive would be published."""
    shutil.make_archive(name, "zip", "data/embedded", name)


def test_every_command_of_the_readme_runs(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    published_weights(checkout)
    meshes(checkout)
    monkeypatch.setattr("models.checkpoints.published.PUBLISHED_CONFIG", checkout / "published.json")
    commands = commands_of(PAGES)
    assert len(commands) > 25
    for command in commands:
        if command not in DONE_BY_MAKE:
            there = command.replace("/data/srn_cars", "data/embedded").replace("/data/meshes", "meshes")
            assert run(there) == 0, command

    figures = json.loads((checkout / "runs/quickstart/demo.json").read_text())
    names = {"preview_psnr", "sample_psnr", "copy_input_psnr", "mean_image_psnr", "seconds"}
    names |= {"pretrained_preview_psnr", "pretrained_sample_psnr", "seconds_to_first_film"}
    assert names <= set(figures)
    assert (checkout / "runs/srn_cars_128/log.jsonl").exists()
    files = [torch.load(checkout / name, weights_only=True) for name in ("genvs.pt", "genvs_again.pt")]
    assert files[0]["model"].keys() == files[1]["model"].keys()
    assert all(torch.equal(value, files[1]["model"][name]) for name, value in files[0]["model"].items())


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_every_picture_and_page_that_a_page_links_to_is_there(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8"))
    for link in links:
        if "://" not in link:
            assert (ROOT / page).parent.joinpath(link).exists(), link


def test_the_map_for_contributors_names_what_is_there():
    """Each row names paths of files from the top; a name without a folder is beside the one before it."""
    rows = re.findall(r"^  \| (?!what|---).*", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M)
    assert len(rows) > 5
    for row in rows:
        beside = ROOT
        for name in re.findall(r"`([\w/]+(?:\.py|\.json|/))`", row):
            path = ROOT / name if "/" in name else beside / name
            assert path.exists(), f"{path} in {row}"
            beside = path.parent
    assert "`FrustumVolume.sample`" in "".join(rows)
    assert hasattr(FrustumVolume, "sample")


def test_the_readme_begins_with_a_picture_and_two_commands():
    first_screen = "\n".join(text_of("README.md").splitlines()[:20])
    assert "](docs/quickstart.png)" in first_screen
    assert all(command in first_screen for command in ("make demo", "make test"))


def program_of(name: str) -> ModuleType:
    """The module that `python -m NAME` runs."""
    return import_module(f"{name}.__main__" if find_spec(name).submodule_search_locations else name)


def run(command: str) -> int:
    """Run a command of the README, in this process where that is possible."""
    words = shlex.split(command)
    if words == ["make", "demo"]:
        return import_module("scripts.demo").main([*SMALL_SET, *SMALL_RUN])
    if words[0] == "torchrun":
        words[words.index("--nproc-per-node") + 1] = "2"
        launch = [sys.executable, "-m", "torch.distributed.run", *words[1:], *SMALL_RUN]
        return subprocess.run(launch, check=False).returncode
    assert words[0] == "python", command
    if words[2] == "scripts.prepare_srn":
        for name in ("cars_train", "cars_val"):
            archive(name)
    if words[1] == "-m":
        fewer_views = ["3" if word == "8" else word for word in words[3:]]
        # A window stays open until a signal comes; measuring does what comes before it opens. What a model
        # has learnt in one step is a thin fog.
        fog = ["--level", "0.2", "--opacity", "0.05", "--resolution", "16", "--cameras", "4"]
        more = {
            "scripts.make_shapes": SMALL_SET,
            "scripts.view": ["--measure"],
            "scripts.export_geometry": fog,
        }
        arguments = fewer_views + more.get(words[2], [])
        return program_of(words[2]).main(arguments)
    program, arguments = words[1].removesuffix(".py"), words[2:]
    if program == "train":
        arguments += SMALL_RUN
    if "photo.png" in arguments:
        example = next(Path("data/embedded/cars_val").iterdir())
        shutil.copy(example / "rgb/000000.png", "photo.png")
        shutil.copy(example / "pose/000000.txt", "pose.txt")
    return import_module(program).main(arguments)
