"""The main job from nothing to a video, on the CPU: python -m scripts.demo (or `make demo`).

Makes the embedded set of procedural cars, trains config/quickstart.json on it, draws a spiral round a car
that the model has never seen, and judges the model on all held-out cars. The figures are printed and written
to demo.json beside the video. A second call goes on where the first was stopped.
"""

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "config" / "quickstart.json"
SHAPES = {"objects": 200, "val": 20, "views": 24, "size": 64}  # cars, views of each, pixels
VIDEO_VIEWS = 40


def main(argv: list[str] | None = None) -> int:
    """Run the demo; user errors become one line and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, count in SHAPES.items():
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N", help=f"default: {count}")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="changes to config/quickstart.json")
    arguments = vars(parser.parse_args(argv))
    try:
        run_demo(arguments.pop("changes"), arguments)
    except (ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("demo: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def run_demo(changes: list[str], shapes: dict[str, int]) -> dict[str, float]:
    """Run every stage and return the figures of demo.json. `shapes` are the options of `scripts.make_shapes`.

    Raises ValueError or OSError, in one line for the user, where a stage cannot do its work.
    """
    began = time.monotonic()
    from config.run import load_config
    from data.formats.registry import open_split
    from models.checkpoints.loading import load_model
    from models.device import choose_device
    from models.training.interruption import StopRequested, StopSignal
    from sample_views import main as sample_views
    from scripts.common.results import write_json
    from scripts.common.shapes_set import ShapesOptions, make_shapes
    from scripts.evaluate.quick import evaluate, table
    from train import train

    config = load_config(CONFIG, changes)
    say(f"1/4 shapes: procedural cars, {shapes['objects']} to learn from and {shapes['val']} to be judged on")
    make_shapes(Path(config.data.root), ShapesOptions(**shapes))
    say(f"2/4 training: {config.train.steps} steps")
    with StopSignal() as stop, suppress(StopRequested), stop.at_once():
        train(config, stop)
    if stop.requested:
        raise ValueError("stopped; the same command goes on from here")
    say("3/4 video: once round a car that the model has not seen")
    views = ["--trajectory", "spiral", "--views", str(VIDEO_VIEWS), "--output", str(config.folder / "demo")]
    if sample_views(["--transfer", str(config.folder), *views]):
        raise ValueError("the video was not made; see above")
    say("4/4 figures: PSNR on the held-out cars, in dB")
    model, config, _ = load_model(config.folder)
    device = choose_device(config.train.device)
    held_out, training = open_split(config.data, "val"), open_split(config.data, "train")
    figures = evaluate(model.to(device), config, held_out, training, device=device)
    figures["seconds"] = time.monotonic() - began
    write_json(config.folder / "demo.json", figures)
    say(table(figures))
    for path in [*sorted(config.folder.glob("demo/*.mp4")), config.folder / "demo.json"]:
        say(str(path))
    return figures


def say(line: str) -> None:
    """Print at once, also where the output is a file."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
