"""Draw a film with the shipped model, then train one from scratch, on the CPU: python -m scripts.demo (or
`make demo`).

Runs the commands that a user would type, and prints each. The first film shows a held-out car as drawn by the
shipped weights, within a minute. Then the demo makes the embedded set of procedural cars, trains
config/quickstart.json on it, draws its film of a held-out car, and evaluates both models on all held-out
cars. The figures are printed and written to demo.json in the run's folder. The same command resumes an
interrupted demo.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config" / "quickstart.json"
PRETRAINED = "cars_64"
SHAPES = {"objects": 200, "val": 20, "views": 24, "size": 64}  # cars, views of each, pixels
VIDEO_VIEWS = 40
INTERRUPTED = (130, -2)


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns the exit code of the first command that fails, otherwise 0."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, count in SHAPES.items():
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N", help=f"default: {count}")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="overrides of config/quickstart.json")
    arguments = vars(parser.parse_args(argv))
    try:
        return run_demo(arguments.pop("changes"), arguments)
    except (ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2


def run_demo(changes: list[str], shapes: dict[str, int]) -> int:
    """Run every command; `shapes` are the options of `scripts.make_shapes`. Returns an exit code."""
    # The settings.
    began = time.monotonic()
    from config.run import load_config
    from scripts.common.results import write_json

    config = load_config(CONFIG, changes)
    run, device = str(config.folder), ("--device", config.train.device)
    first_film, film, figures = (config.folder / name for name in ("demo_pretrained", "demo", "demo.json"))
    first_figures = figures.with_name("demo_pretrained.json")

    # The first film: the shipped model draws the first of the cars that are held out below. Alone in a set,
    # that car is there within seconds.
    alone = {**shapes, "first": shapes["objects"] - 1, "objects": 1, "val": 1}
    car = f"{config.data.root}_first"
    code = run_commands(
        "first film: a held-out car, drawn by the shipped model",
        make_shapes(car, alone),
        spiral(PRETRAINED, first_film, "--data", car, *device),
    )
    if code:
        return code
    seconds_to_first_film = time.monotonic() - began
    say(str(first_film / "views.mp4"))

    # The same from scratch, and figures of both models.
    for title, *commands in (
        ("shapes: procedural cars for training and evaluation", make_shapes(config.data.root, shapes)),
        (f"training: {config.train.steps} steps from scratch", ["train.py", str(CONFIG), *changes]),
        ("film: the same car, drawn by the new model", spiral(run, film, *device)),
        (
            "figures: PSNR on the held-out cars, in dB, of the shipped and of the new model",
            evaluate(PRETRAINED, first_figures, "--data", config.data.root, *device),
            evaluate(run, figures, *device),
        ),
    ):
        code = run_commands(title, *commands)
        if code:
            return code

    # All figures in one file, and the paths.
    shipped, own = (json.loads(path.read_text(encoding="utf-8")) for path in (first_figures, figures))
    pretrained = {f"pretrained_{name}": shipped[name] for name in ("preview_psnr", "sample_psnr")}
    seconds = {"seconds_to_first_film": seconds_to_first_film, "seconds": time.monotonic() - began}
    write_json(figures, own | pretrained | seconds)
    for path in (first_film / "views.mp4", film / "views.mp4", figures):
        say(str(path))
    return 0


def make_shapes(root: str, options: dict[str, int]) -> list[str]:
    """The command that makes a set of cars."""
    flags = (word for name, count in options.items() for word in (f"--{name}", str(count)))
    return ["-m", "scripts.make_shapes", "--root", root, *flags]


def spiral(model: str, folder: Path, *flags: str) -> list[str]:
    """The command that films the first held-out car."""
    views = ("--trajectory", "spiral", "--views", str(VIDEO_VIEWS))
    return ["sample_views.py", "--transfer", model, *views, *flags, "--output", str(folder)]


def evaluate(model: str, figures: Path, *flags: str) -> list[str]:
    """The command that evaluates a model on the held-out cars."""
    return ["-m", "scripts.evaluate", "--checkpoint", model, *flags, "--output", str(figures)]


def run_commands(title: str, *commands: list[str]) -> int:
    """Run commands under a title until one fails; returns its exit code, otherwise 0."""
    say(title)
    for command in commands:
        say(f"    python {shlex.join(command)}")
        code = run_command(command)
        if code:
            return code
    return 0


def run_command(command: list[str]) -> int:
    """Run a program in a child process; returns its exit code.

    On Ctrl-C, which the terminal sends to both processes, waits until the program has saved.
    """
    program = ROOT / command[0] if command[0].endswith(".py") else command[0]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen([sys.executable, str(program), *command[1:]], env=environment) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            code = process.wait() or 130
    if code in INTERRUPTED:
        print("demo: interrupted; run the same command to resume", file=sys.stderr)
        return 130
    return code


def say(line: str) -> None:
    """Print without buffering, even to a file."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
