"""Make a base: render, train, measure, and publish the folder by one rename."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from data.files import write_text_synced
from scripts.common.progress import progress_bar
from scripts.common.results import write_json
from scripts.make_base.options import BaseOptions

if TYPE_CHECKING:
    from scripts.make_base.training import Stop

RECORD, FIGURES = "make_base.json", "figures.json"
TRAINING = "training"  # images and states, in the folder of the work
ROOM_BYTES = 500_000_000  # for images, states of training and the base


def unfinished_folder(out: Path) -> Path:
    """Where a base that will be `out` is made."""
    return out.with_name(f"{out.name}.unfinished")


def claim(out: Path, options: BaseOptions) -> bool:
    """Prepare the folder of the work; returns whether `out` already is the base of these options.

    Raises ValueError, in one line, if `out` or the unfinished work is something else, or the disk is full;
    OSError if nothing can be written there.
    """
    remedy = "choose another --out"
    if out.exists() and not (out / RECORD).is_file():
        raise ValueError(f"{out}: exists and was not written by this program; {remedy}")
    work = unfinished_folder(out)
    if work.exists() and not (work / RECORD).is_file() and (not work.is_dir() or any(work.iterdir())):
        raise ValueError(f"{work}: exists and was not written by this program; {remedy}")
    for folder in (out, work):
        if (folder / RECORD).is_file():
            _require_same(folder, options, remedy)
    if out.exists():
        return True
    work.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(work).free
    if free < ROOM_BYTES:
        if not any(work.iterdir()):
            work.rmdir()
        needed = f"{free / 1e6:.0f} MB are left and {ROOM_BYTES / 1e6:.0f} MB needed"
        raise ValueError(f"{out}: {needed}; free some space or {remedy}")
    if not (work / RECORD).exists():
        write_text_synced(work / RECORD, json.dumps(options.record, indent=2) + "\n")
    return False


def _require_same(folder: Path, options: BaseOptions, remedy: str) -> None:
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{folder / RECORD} is damaged; delete {folder} or {remedy}")
    other = [
        f"{name} {found.get(name)} instead of {wanted}"
        for name, wanted in options.record.items()
        if found.get(name) != wanted
    ]
    if other:
        raise ValueError(f"{folder} was made with {', '.join(other)}; delete it or {remedy}")


def make_base(
    out: Path, options: BaseOptions, stop: "Stop", say: Callable[[str], object]
) -> dict[str, object]:
    """Write the base to `out`, or continue an earlier attempt; returns its figures.

    Until everything is measured, all work is in `unfinished_folder(out)`, which is then renamed. Warnings are
    passed to `say`.
    Raises StoppedError at a stop; ValueError and OSError, in one line, as `claim` does.
    """
    from scripts.make_base.networks import require_libraries
    from scripts.training.run_lock import hold_run

    require_libraries()
    if claim(out, options):
        shutil.rmtree(out / TRAINING, ignore_errors=True)  # of a run that was killed just there, below
        return _read_figures(out / FIGURES)
    work = unfinished_folder(out)
    with hold_run(work / TRAINING, say):
        figures = _make(work, options, stop)
        write_json(work / FIGURES, figures)
        work.rename(out)
        shutil.rmtree(out / TRAINING, ignore_errors=True)
    return figures


def _read_figures(path: Path) -> dict[str, object]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is missing or damaged; delete {path.parent} to make it again") from error


def _make(work: Path, options: BaseOptions, stop: "Stop") -> dict[str, object]:
    """Render, train, write the parts of the base to `work`, and measure them."""
    import torch

    from scripts.make_base.cars import held_out_cars, training_cars
    from scripts.make_base.export import write_folder
    from scripts.make_base.figures import measure
    from scripts.make_base.networks import make_tokenizer
    from scripts.make_base.training import StoppedError
    from scripts.make_base.unet import train_unet
    from scripts.make_base.vae import latent_means, train_vae

    def check() -> None:
        if stop.requested:
            raise StoppedError

    # Cars.
    scratch, began_s = work / TRAINING, time.process_time()
    with progress_bar(total=options.cars, desc="cars", unit="car") as bar:
        cars = training_cars(scratch / "cars", options, lambda: (check(), bar.update()))
    held_out = held_out_cars(options)
    spent_s = {"cars": time.process_time() - began_s}

    # Networks.
    vae, spent_s["vae"] = train_vae(cars, scratch / "vae.pt", options, stop)
    latents = latent_means(vae, cars) * vae.config.scaling_factor
    tokenizer = make_tokenizer()
    captions, state = cars.captions, scratch / "unet.pt"
    network, spent_s["unet"] = train_unet(latents, captions, tokenizer, state, options, stop)

    # Folder and figures.
    write_folder(work, vae, network, tokenizer)
    began_s = time.process_time()
    figures = measure(work, cars, held_out, options.sample_steps, check)
    spent_s["figures"] = time.process_time() - began_s
    return figures | {"cpu_s": spent_s, "torch": torch.__version__}
