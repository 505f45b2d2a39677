"""The controls of a window."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffusion.samplers import SAMPLERS, SampleOptions
from scripts.view.frames import KINDS, RGB

if TYPE_CHECKING:
    import viser

NUM_VIEWS = 40  # of a path, by default
MOST_VIEWS = 10_000  # of a path; a window can still display as many
SPEEDS = 0.1, 60.0  # views per second


@dataclass(frozen=True)
class View:
    """Controls of the object and its preview."""

    subject: "viser.GuiDropdownHandle"
    views: "viser.GuiTextHandle"
    change: "viser.GuiButtonGroupHandle"
    go: "viser.GuiButtonGroupHandle"
    kind: "viser.GuiDropdownHandle"
    channel: "viser.GuiSliderHandle"
    scale: "viser.GuiHtmlHandle"
    guides: "viser.GuiCheckboxHandle"
    speed: "viser.GuiMarkdownHandle"


@dataclass(frozen=True)
class Sampling:
    """Controls of sampling, and the sample."""

    frame: "viser.GuiFolderHandle"
    steps: "viser.GuiNumberHandle"
    sampler: "viser.GuiDropdownHandle"
    guidance: "viser.GuiNumberHandle"
    seed: "viser.GuiNumberHandle"
    draw: "viser.GuiButtonHandle"
    cancel: "viser.GuiButtonHandle"
    progress: "viser.GuiProgressBarHandle"
    caption: "viser.GuiMarkdownHandle"


@dataclass(frozen=True)
class Path:
    """Controls of the camera path."""

    add: "viser.GuiButtonHandle"
    change: "viser.GuiButtonGroupHandle"
    num: "viser.GuiNumberHandle"
    loop: "viser.GuiCheckboxHandle"
    fps: "viser.GuiNumberHandle"
    play: "viser.GuiButtonHandle"
    stop: "viser.GuiButtonHandle"
    name: "viser.GuiTextHandle"
    replace: "viser.GuiCheckboxHandle"
    save: "viser.GuiButtonHandle"
    saved: "viser.GuiMarkdownHandle"


@dataclass(frozen=True)
class Panel:
    """All controls."""

    status: "viser.GuiMarkdownHandle"
    view: View
    sampling: Sampling
    path: Path


ADD_NEAREST, REMOVE_LAST = "Add nearest", "Remove last"
OVERVIEW, INPUT = "Overview", "Input view"
DELETE_LAST, CLEAR = "Delete last", "Clear"


def build_panel(gui: "viser.GuiApi", names: tuple[str, ...], channels: int, options: SampleOptions) -> Panel:
    """Create the controls, without callbacks."""
    status = gui.add_markdown("", visible=False)
    tabs = gui.add_tab_group()
    with tabs.add_tab("Look", "eye"):
        view = _build_view(gui, names, channels)
        sampling = _build_sampling(gui, options)
    with tabs.add_tab("Camera path", "route"):
        path = _build_path(gui)
    return Panel(status, view, sampling, path)


def _build_view(gui: "viser.GuiApi", names: tuple[str, ...], channels: int) -> View:
    with gui.add_folder("Object"):
        subject = gui.add_dropdown("Object", names)
        views = gui.add_text("Input views", "", hint="numbers of the input views of the model")
        change = gui.add_button_group("", (ADD_NEAREST, REMOVE_LAST))
    with gui.add_folder("Preview"):
        kind = gui.add_dropdown("Show", KINDS, initial_value=RGB)
        channel = gui.add_slider("Channel", 0, channels - 1, 1, 0, visible=False)
        scale = gui.add_html("", visible=False)
        go = gui.add_button_group("Go to", (OVERVIEW, INPUT))
        guides = gui.add_checkbox("Guides", True, hint="working volume, and orbit of the first input view")
        speed = gui.add_markdown("")
    return View(subject, views, change, go, kind, channel, scale, guides, speed)


def _build_sampling(gui: "viser.GuiApi", options: SampleOptions) -> Sampling:
    with gui.add_folder("Sample") as frame:
        return Sampling(
            frame,
            gui.add_number("Steps", options.steps, min=2, max=10_000, step=1),
            gui.add_dropdown("Sampler", tuple(SAMPLERS), initial_value=options.sampler),
            gui.add_number(
                "Guidance", float(options.guidance), step=0.1, hint="1: none; higher: closer to the input"
            ),
            gui.add_number("Seed", 0, min=0, step=1),
            gui.add_button("Sample", color="blue", hint="sample this view from the diffusion model"),
            gui.add_button("Cancel", color="gray", visible=False),
            gui.add_progress_bar(0.0, visible=False),
            gui.add_markdown(""),
        )


def _build_path(gui: "viser.GuiApi") -> Path:
    return Path(
        gui.add_button("Add keyframe", color="blue", hint="the current camera"),
        gui.add_button_group("Keyframes", (DELETE_LAST, CLEAR)),
        gui.add_number("Views", NUM_VIEWS, min=1, max=MOST_VIEWS, step=1),
        gui.add_checkbox("Loop", False, hint="return to the first keyframe"),
        gui.add_number("Views per second", 10.0, min=SPEEDS[0], max=SPEEDS[1], step=0.5),
        gui.add_button("Play"),
        gui.add_button("Stop", color="gray", visible=False),
        gui.add_text("Name", "path"),
        gui.add_checkbox("Replace", False, hint="overwrite a file of that name"),
        gui.add_button("Save path", color="blue"),
        gui.add_markdown(""),
    )
