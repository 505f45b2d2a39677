"""Tracking of a run by Weights & Biases, which must never block the run."""

import socket
from typing import Any
from urllib.parse import urlsplit

from config.families import PROJECT
from config.run import RunConfig
from data.files import first_line

PATIENCE = 30  # seconds; timeout of wandb at the start


class Tracker:
    """Sends reports to Weights & Biases, stores them for later, or does nothing, depending on the config.

    Without a key, or if the server does not answer, tracking is offline, since wandb would prompt or wait.
    `notice` is a message about that for the user, if any.
    """

    def __init__(self, config: RunConfig):
        self.notice: str | None = None
        self._run: Any = None
        if config.train.wandb == "off":
            return
        import wandb

        mode = "offline"
        if config.train.wandb == "on":
            self.notice = _obstacle(wandb)
            mode = "offline" if self.notice else "online"
        name = f"{config.recipe}_{config.name}" if config.recipe else config.name  # stages share names
        options = {
            "project": PROJECT,
            "name": name,
            "id": name,  # a resumed run continues the same one
            "resume": "allow",
            "dir": config.folder,
            "config": config.model_dump(mode="json"),
            "settings": wandb.Settings(init_timeout=PATIENCE, login_timeout=PATIENCE),
        }
        try:
            self._run = wandb.init(mode=mode, **options)
        except wandb.errors.Error as error:
            self.notice = f"wandb: {first_line(error)}; tracking offline"
            self._run = wandb.init(mode="offline", **options)

    def log(self, report: dict[str, Any]) -> None:
        """Track a line of the log."""
        if self._run:
            self._run.log(report, step=report["step"])

    def finish(self) -> None:
        """Send the remaining reports."""
        if self._run:
            self._run.finish()


def _obstacle(wandb: Any) -> str | None:
    """Why tracking cannot be online; None if it can."""
    if not wandb.api.api_key:
        return "wandb: no key; tracking offline (wandb login, then wandb sync)"
    address = urlsplit(wandb.Settings().base_url)
    try:
        with socket.create_connection((address.hostname, address.port or 443), timeout=3):
            return None
    except OSError:
        return f"wandb: {address.hostname} does not answer; tracking offline (wandb sync sends it later)"
