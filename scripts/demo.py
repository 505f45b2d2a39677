"""Train a model from scratch and sample a video, on the CPU: python -m scripts.demo (or `make demo`).

Runs the commands that a user would type, and prints each: makes the embedded set of procedural cars, trains
config/quickstart.json on it, samples a spiral around a held-out car, and evaluates the model on all held-out
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
    # The commands.
    began = time.monotonic()
    from config.run import load_config
    from scripts.common.results import write_json

    config = load_config(CONFIG, changes)
    run, figures = str(config.folder), config.folder / "demo.json"
    steps = {
        f"shapes: {shapes['objects']} procedural cars for training and {shapes['val']} for evaluation": [
            *("-m", "scripts.make_shapes", "--root", config.data.root),
            *(word for name, count in shapes.items() for word in (f"--{name}", str(count))),
        ],
        f"training: {config.train.steps} steps": ["train.py", str(CONFIG), *changes],
        "video: a spiral around a held-out car": [
            *("sample_views.py", "--transfer", run, "--trajectory", "spiral"),
            *("--views", str(VIDEO_VIEWS), "--output", str(config.folder / "demo")),
        ],
        "figures: PSNR on the held-out cars, in dB": [
            *("-m", "scripts.evaluate", "--checkpoint", run, "--device", config.train.device),
            *("--output", str(figures)),
        ],
    }

    # Run them, and stop at the first that fails.
    for number, (title, command) in enumerate(steps.items(), start=1):
        say(f"{number}/{len(steps)} {title}\n    python {shlex.join(command)}")
        code = run_command(command)
        if code:
            return code

    # Add the total time to the figures, and print the paths.
    document = json.loads(figures.read_text(encoding="utf-8"))
    write_json(figures, document | {"seconds": time.monotonic() - began})
    for path in [*sorted(config.folder.glob("demo/*.mp4")), figures]:
        say(str(path))
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
