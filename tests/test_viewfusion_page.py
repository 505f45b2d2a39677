"""Every command of docs/viewfusion.md is run here at a small size."""

import json
import re
import shlex
import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from models.viewfusion.drawing import PUBLISHED_OPTIONS

ROOT = Path(__file__).parents[1]
SMALL_SET = ["--objects", "4", "--val", "2", "--size", "32", "--workers", "1"]
SMALL_RUN = [
    "model.unet=" + json.dumps(
        {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [False, True], "groups": 4}
    ),
    *("data.image_size=32", "data.workers=0", "train.steps=1", "train.batch=1", "train.accumulate=1"),
    *("sample.steps=2", "train.preflight=false", "train.device=cpu"),
]  # fmt: skip
FEWER = {"24": "3", "2000": "5"}  # views, steps


def commands() -> list[str]:
    text = (ROOT / "docs/viewfusion.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]


def nmr(root: Path) -> None:
    """The cars of the set, as two categories."""
    shutil.copytree("sets/shapes_nmr", root)
    shutil.copytree(root / "02958343", root / "03001627")
    names = {"02958343": {"name": "car,auto"}, "03001627": {"name": "chair"}}
    (root / "metadata.yaml").write_text(json.dumps(names))


def run(command: str) -> int:
    program, *words = shlex.split(command)[1:]
    words = [FEWER.get(word, word) for word in words]
    if program != "-m":
        more = SMALL_RUN if program == "train.py" else []
        return import_module(program.removesuffix(".py")).main([*words, *more])
    name, *words = words
    module = f"{name}.__main__" if find_spec(name).submodule_search_locations else name
    more = {"scripts.make_shapes": SMALL_SET, "scripts.pack": ["--workers", "1"]}.get(name, [])
    return import_module(module).main([*words, *more])


def test_every_command_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = PUBLISHED_OPTIONS.model_copy(update={"steps": 5})
    monkeypatch.setattr("models.viewfusion.model.ViewFusion.published_options", few)
    (tmp_path / "config").symlink_to(ROOT / "config")
    assert len(commands()) > 15
    for command in commands():
        if "viewfusion_nmr" in command and not Path("data/NMR_Dataset").exists():
            nmr(Path("data/NMR_Dataset"))
        assert run(command) == 0, command
    for name in ("weights_0002.png", "steps_0002.png", "weights.mp4", "views.mp4"):
        assert (tmp_path / "samples/weights" / name).is_file()
    saved = json.loads(Path("runs/viewfusion_nmr_withheld/config.json").read_text())
    assert saved["model"]["angle"]["direction"] == 1
    spread = list((tmp_path / "samples/spread").glob("spread_std_*.png"))
    assert len(spread) == 3
