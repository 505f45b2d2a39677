"""Look through a window in the browser at what a model knows of an object: python -m scripts.view RUN"""

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

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from scripts.view.backend import Engine
    from scripts.view.server import Viewer

HELP = """\
examples:
  python -m scripts.view runs/quickstart
  python -m scripts.view runs/srn_cars_128 --data /data/srn_cars --cond-views 64 104
  python -m scripts.view runs/srn_cars_128 --image photo.jpg --elevation 15
  python -m scripts.view runs/quickstart --measure

Open the address that it prints. The background is the volume as the window's camera sees it: drag to turn,
scroll to come nearer, drag with the right button to shift. Each window has a camera and a camera path of its
own. docs/viewer.md shows all controls and the format of path files.

There is no password: anybody who reaches the address may look, draw samples and write path files into
--output. At 127.0.0.1 these are all users of this machine, and pages of other sites that are open in a
browser on it; with --host 0.0.0.0 everybody in the network as well.

Ctrl-C ends it, and a second one at once. Exit codes: 2 bad input, 130 Ctrl-C, 143 SIGTERM; 0 after --measure.
"""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and serve until a signal comes; user errors become one line and exit code 2."""
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
    add("--host", default="127.0.0.1", metavar="NAME", help="address to listen at (default: 127.0.0.1)")
    add("--port", type=int, default=8080, metavar="N", help="0: any that is free (default: 8080)")
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
    add("--measure", action="store_true", help="open no window, but say how fast previews are")
    return parser


@dataclass(frozen=True)
class ViewRequest:
    """What is looked at, and where windows are served."""

    checkpoint: str
    subject: SubjectRequest
    host: str = "127.0.0.1"
    port: int = 8080  # 0: any that is free
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
    """What the parsed command line asks for. Raises ValueError where that makes no sense."""
    own = ("host", "port", "size", "device", "output", "measure")
    return ViewRequest(
        arguments.run, subject_request(arguments), **{name: getattr(arguments, name) for name in own}
    )


def view(request: ViewRequest) -> int:
    """Serve windows until a signal comes, or measure; returns the exit code.

    Raises ValueError or OSError, in one line for the user, before a window opens.
    """
    require_viser()
    if request.measure:
        from scripts.view.timing import measure

        print(measure(open_engine(request), request.heights))
        return 0
    return serve(request)


def serve(request: ViewRequest) -> int:
    """Serve windows until a signal comes; returns the exit code.

    Raises ValueError or OSError, in one line for the user, before a window opens.
    """
    signals: list[int] = []
    ended, opened = threading.Event(), threading.Event()

    def receive(number: int, _: object) -> None:
        signals.append(number)
        restore()  # the next one ends the process
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
        while not ended.wait(timeout=0.2):  # a signal that another thread receives does not wake this one
            continue
        viewer.stop()
    except KeyboardInterrupt:
        if not signals:
            raise
    finally:
        restore()
    return 128 + signals[0]


def require_viser() -> None:
    """Raise ValueError where viser is missing."""
    try:
        import viser  # noqa: F401
    except ImportError as error:
        raise ValueError("viser is not installed; pip install -r requirements-viewer.txt") from error


def open_viewer(request: ViewRequest) -> "Viewer":
    """A viewer that serves already. Raises ValueError or OSError, in one line for the user."""
    from scripts.view.server import Viewer, require_free
    from scripts.view.subjects import data_flags
    from scripts.view.window.window import Choices

    # A window may be closed while something is on its way to it.
    warnings.filterwarnings("ignore", message="Queued .* on a closed connection")
    require_free(request.host, request.port)  # before the model is loaded
    engine = open_engine(request)
    command = ["--transfer", request.checkpoint, *data_flags(request.subject)]
    choices = Choices(command, engine.config.name, request.heights, request.output)
    return Viewer(engine, choices, host=request.host, port=request.port)


def open_engine(request: ViewRequest) -> "Engine":
    """The model and what it looks at. Raises ValueError or OSError, in one line for the user."""
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
