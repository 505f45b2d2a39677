"""Explore the volumes of a model interactively in the browser: python -m scripts.view RUN"""

import argparse
import signal
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.command_line import OneLineParser
from scripts.sampling.arguments import add_subject, subject_request
from scripts.sampling.request import SubjectRequest

if TYPE_CHECKING:  # heavy modules are imported where they are used, so that --help is fast
    from scripts.view.backend import Engine
    from scripts.view.server import Viewer

HELP = """\
examples:
  python -m scripts.view runs/quickstart
  python -m scripts.view runs/srn_cars_128 --data /data/srn_cars --cond-views 64 104
  python -m scripts.view runs/srn_cars_128 --image photo.jpg --elevation 15
  python -m scripts.view runs/quickstart --measure

Open the address that it prints. The background is the volume, rendered from the window's camera: drag to
orbit, scroll to zoom, drag with the right button to pan. Each window has its own camera and camera path.
docs/viewer.md describes all controls and the format of path files.

There is no password: anybody who can reach the address can use the viewer, sample views and write path files
to --output. At 127.0.0.1 this includes all users of this machine, and pages of other sites that are open in a
browser on it; with --host 0.0.0.0 also the whole network.

Ctrl-C stops it; press it twice to stop at once. Exit codes: 2 bad input, 130 Ctrl-C, 143 SIGTERM; 0 after
--measure.
"""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and serve until a signal arrives; user errors are one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        return view(view_request(arguments))
    except (ValueError, OSError) as error:
        print(f"view: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.view",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="run such as runs/NAME, a checkpoint, or genvs.pt")
    add_subject(parser, "the first N objects of the split to choose from (default: all)")
    add = parser.add_argument_group("the window").add_argument
    add("--host", default="127.0.0.1", metavar="NAME", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8080, metavar="N", help="0: any free port (default: 8080)")
    add(
        "--size",
        type=int,
        default=128,
        metavar="N",
        help="height of previews in pixels (default: 128); half while the camera moves",
    )
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    add(
        "--output", type=Path, default=Path("paths"), metavar="FOLDER", help="for path files (default: paths)"
    )
    add("--measure", action="store_true", help="print the speed of previews instead of serving")
    return parser


@dataclass(frozen=True)
class ViewRequest:
    """What to show, and where to serve it."""

    checkpoint: str
    subject: SubjectRequest
    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free port
    size: int = 128  # height of previews in pixels
    device: str = "auto"
    output: Path = Path("paths")  # for path files
    measure: bool = False  # time previews instead of serving windows

    def __post_init__(self):
        if not 0 <= self.port <= 65535:
            raise ValueError(f"--port {self.port}: is not between 0 and 65535")
        if not 16 <= self.size <= 1024:
            raise ValueError(f"--size {self.size}: is not between 16 and 1024")

    @property
    def heights(self) -> tuple[int, int]:
        """Heights of previews in pixels, while the camera moves and at rest."""
        return self.size // 2, self.size


def view_request(arguments: argparse.Namespace) -> ViewRequest:
    """The request that the parsed command line describes."""
    own = ("host", "port", "size", "device", "output", "measure")
    return ViewRequest(
        arguments.run, subject_request(arguments), **{name: getattr(arguments, name) for name in own}
    )


def view(request: ViewRequest) -> int:
    """Serve windows until a signal arrives, or measure; returns the exit code."""
    require_viser()
    if request.measure:
        from scripts.view.timing import measure

        print(measure(open_engine(request), request.heights))
        return 0
    return serve(request)


def serve(request: ViewRequest) -> int:
    """Serve windows until a signal arrives; returns the exit code."""
    signals: list[int] = []
    ended, opened = threading.Event(), threading.Event()

    def receive(number: int, _: object) -> None:
        signals.append(number)
        restore()  # the next signal ends the process
        ended.set()
        if not opened.is_set():
            raise KeyboardInterrupt

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        viewer = open_viewer(request)
        opened.set()
        print(f"{viewer.url}  (Ctrl-C ends)", flush=True)
        while not ended.wait(timeout=0.2):  # poll: a signal received by another thread does not wake this one
            continue
        viewer.stop()
    except KeyboardInterrupt:
        if not signals:
            raise
    finally:
        restore()
    return 128 + signals[0]


def require_viser() -> None:
    """Raise ValueError if viser is not installed."""
    try:
        import viser  # noqa: F401
    except ImportError as error:
        raise ValueError("viser is not installed; pip install -r requirements-viewer.txt") from error


def open_viewer(request: ViewRequest) -> "Viewer":
    """Start a viewer."""
    from scripts.view.server import Viewer, require_free
    from scripts.view.subjects import data_flags
    from scripts.view.window.window import Choices

    # A window may be closed while messages to it are queued.
    warnings.filterwarnings("ignore", message="Queued .* on a closed connection")
    require_free(request.host, request.port)  # before the model is loaded
    engine = open_engine(request)
    command = ["--transfer", request.checkpoint, *data_flags(request.subject)]
    choices = Choices(command, engine.config.name, request.heights, request.output)
    return Viewer(engine, choices, host=request.host, port=request.port)


def open_engine(request: ViewRequest) -> "Engine":
    """Load the model and open its subjects."""
    from models.checkpoints.loading import load_model
    from models.device import choose_device, place
    from models.volumes.volume_model import volumes_of
    from scripts.view.backend import Engine
    from scripts.view.subjects import open_subjects

    device = choose_device(request.device)
    model, config, _ = load_model(request.checkpoint)
    model = place(volumes_of(model, request.checkpoint), device)
    return Engine(model, config, open_subjects(config, request.subject), device)


if __name__ == "__main__":
    sys.exit(main())
