"""The viewer's server: opens a window for every browser that connects."""

import contextlib
import io
import os
import socket
from collections.abc import Iterator

import viser

from scripts.view.backend import Engine
from scripts.view.render_thread import Worker
from scripts.view.window.window import Choices, Window


class Viewer:
    """Serves windows at `host` and `port` (0: any free port) until it is stopped.

    Raises ValueError if the address cannot be used.
    """

    def __init__(self, engine: Engine, choices: Choices, *, host: str, port: int):
        require_free(host, port)
        self.engine, self.windows = engine, {}
        self._worker, self._choices = Worker(), choices
        with quiet():
            self.server = viser.ViserServer(host=host, port=port, label=choices.title, verbose=False)
        self.url = f"http://{host}:{self.server.get_port()}"
        if port not in (0, self.server.get_port()):  # another program took it in the meantime
            self.stop()
            raise ValueError(in_use(host, port))
        self.server.gui.configure_theme(control_width="large", show_logo=False, show_share_button=False)
        self.server.scene.configure_default_lights(cast_shadow=False)
        self._worker.start()
        self.server.on_client_connect(self._open)
        self.server.on_client_disconnect(self._close)

    def stop(self) -> None:
        """Close all windows and release the port."""
        for window in list(self.windows.values()):
            window.session.close()  # cancels the current sample
        self._worker.stop()
        with quiet():
            self.server.stop()

    def _open(self, client: viser.ClientHandle) -> None:
        self.windows[client.client_id] = Window(client, self.engine, self._worker, self._choices)
        if client.client_id not in self.server.get_clients():  # it has disconnected in the meantime
            self._close(client)

    def _close(self, client: viser.ClientHandle) -> None:
        window = self.windows.pop(client.client_id, None)
        if window is not None:
            window.session.close()


def require_free(host: str, port: int) -> None:
    """Raise ValueError if the address cannot be listened on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":  # like the server: a port that was released a moment ago is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if isinstance(error, socket.gaierror):
            raise ValueError(f"--host {host}: is no address of this machine; use 127.0.0.1") from error
        raise ValueError(in_use(host, port)) from error


def in_use(host: str, port: int) -> str:
    """The error if the port is taken or may not be used."""
    return (
        f"--port {port}: cannot be used at {host}, as it is taken or reserved; choose another, or 0 for any"
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence viser, which prints when it starts and stops."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
