"""Assemble a window: controls, scene and callbacks."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.view.backend import Engine
from scripts.view.frames import LATENT, RGB
from scripts.view.render_thread import Worker
from scripts.view.subjects import check_views, nearest_view
from scripts.view.window.panel import ADD_NEAREST, OVERVIEW, build_panel
from scripts.view.window.path_editor import CameraPathEditor
from scripts.view.window.sampler import SampleRenderer
from scripts.view.window.session import NO_OBJECT, Session

if TYPE_CHECKING:
    from viser import ClientHandle


@dataclass(frozen=True)
class Choices:
    """Options of windows from the command line."""

    command: list[str]  # flags of sample_views.py for the model and the data
    title: str
    heights: tuple[int, int]  # of images in pixels, while the camera moves and at rest
    folder: Path  # for path files


class Window:
    """The window of a client that has just connected."""

    def __init__(self, client: "ClientHandle", engine: Engine, worker: Worker, choices: Choices):
        channels = engine.model.config.renderer.latent_channels
        names = engine.subjects.names
        client.gui.main_panel.dock_right()
        panel = build_panel(client.gui, names, channels, engine.config.sample)
        self.session = Session(client, panel, engine, worker, choices.heights)
        self.sampler = SampleRenderer(self.session)
        self.editor = CameraPathEditor(self.session, choices.folder, choices.command)
        self._connect()
        worker.add(self.session)
        self.session.look(names[0], engine.subjects.first_views(names[0]), begin=True)

    def _connect(self) -> None:
        """Connect the controls of the view; the others belong to the sampler and the path editor."""
        session, view = self.session, self.session.panel.view
        subjects, stage = session.engine.subjects, session.stage

        async def on_move(camera) -> None:  # in viser's own thread, so that cameras arrive in order
            session.moved(camera)

        def change(which: str) -> None:
            if session.chosen is None:
                raise ValueError(NO_OBJECT)
            name, views = session.chosen.name, session.chosen.views
            if which == ADD_NEAREST:
                found = nearest_view(subjects.cameras(name), session.eye.position, views)
                if found is None:
                    raise ValueError(f"all views of {name} are input views already")
                session.look(name, [*views, found])
            elif len(views) > 1:
                session.look(name, views[:-1])
            else:
                raise ValueError("one input view must stay; add another first")

        def type_views(text: str) -> None:
            if session.chosen is None:
                raise ValueError(NO_OBJECT)
            name = session.chosen.name
            session.look(name, check_views(subjects, name, text), typed=True)

        def show_kind(kind: str) -> None:
            view.channel.visible, view.scale.visible = kind == LATENT, kind != RGB

        # Connect.
        session.client.camera.on_update(on_move)
        session.on(view.subject.on_update, lambda name: session.look(name, subjects.first_views(name)))
        session.on(view.views.on_update, type_views)
        session.on(view.change.on_click, change)
        session.on(view.kind.on_update, show_kind)
        session.on(view.channel.on_update, lambda _: None)
        session.on(view.guides.on_update, stage.show_guides)
        session.on(
            view.go.on_click, lambda where: session.overview() if where == OVERVIEW else session.go_to_input()
        )
