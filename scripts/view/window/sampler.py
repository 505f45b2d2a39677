"""Sample views for a window on demand, showing every denoising step."""

import math
import time
from typing import TYPE_CHECKING

from jaxtyping import UInt8
from pydantic import ValidationError
from torch import Tensor

from data.images.pixels import to_uint8
from diffusion.samplers import SAMPLERS, SampleOptions
from models.sampling.finite import require_finite
from scripts.view import frames as pictures
from scripts.view.backend import Encoded
from scripts.view.browser_camera import BrowserCamera
from scripts.view.window.session import NO_OBJECT, Session

if TYPE_CHECKING:
    from viser import GuiImageHandle

FAR = 1.25  # distance, relative to the input view's, beyond which samples get a warning


class CancelledError(Exception):
    """The sample is no longer needed."""


class SampleRenderer:
    """Samples views for a session."""

    def __init__(self, session: Session):
        self._session, self._cancelled, self._count = session, False, 0
        self._picture: GuiImageHandle | None = None  # made when there is something to show
        controls = session.panel.sampling
        session.on(controls.draw.on_click, lambda _: self.draw())
        session.on(controls.cancel.on_click, lambda _: self.cancel())

    def draw(self) -> None:
        """Queue a sample of the window's current view. Raises ValueError if the controls are inconsistent."""
        options, seed = self._options(), self._session.panel.sampling.seed.value
        encoded, eye = self._session.encoded, self._session.eye
        if encoded is None:
            raise ValueError(NO_OBJECT)
        self._cancelled = False
        self._show_buttons(drawing=True)
        self._session.ask(lambda: self._draw(encoded, eye, seed, options))

    def cancel(self) -> None:
        """Stop after the current step."""
        self._cancelled = True

    def _options(self) -> SampleOptions:
        controls, trained = self._session.panel.sampling, self._session.engine.config.sample
        sampler = controls.sampler.value
        chosen = {"sampler": sampler, "steps": controls.steps.value, "guidance": controls.guidance.value}
        if SAMPLERS[sampler] == "none":
            chosen["stochastic"] = False
        try:
            return SampleOptions.model_validate(trained.model_dump() | chosen)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error

    def _draw(self, encoded: Encoded, eye: BrowserCamera, seed: int, options: SampleOptions) -> None:
        session, controls = self._session, self._session.panel.sampling
        camera, began = eye.square(encoded.radius), time.monotonic()
        try:
            size = tuple(encoded.source.images.shape[-2:])
            preview = pictures.picture(session.engine.preview(encoded, camera, size), pictures.RGB)

            def on_step(step: int, clean: Tensor) -> None:
                self._require_wanted(encoded)
                controls.progress.value = 100 * (step + 1) / options.steps
                controls.caption.content = f"Step {step + 1} of {options.steps} ..."
                self._show(preview, to_uint8(clean[0, 0].cpu()))
                session.worker.breathe()

            drawn = session.engine.sample(encoded, camera, seed, options, on_step).images[0, 0].cpu()
            require_finite(drawn)
            self._require_wanted(encoded)
            self._show(preview, to_uint8(drawn))
            self._count += 1
            session.stage.show_sample(self._count, camera[0, 0], to_uint8(drawn))
            seconds = time.monotonic() - began
            controls.caption.content = (
                f"Preview, sample ({options.steps} steps, {seconds:.1f} s){self._advice(eye)}"
            )
        except CancelledError:
            controls.caption.content = "Cancelled"
        finally:
            self._show_buttons(drawing=False)

    def _require_wanted(self, encoded: Encoded) -> None:
        """Raise CancelledError if the sample was cancelled, or the object or its input views have changed."""
        if self._cancelled or self._session.closed or self._session.encoded is not encoded:
            raise CancelledError

    def _advice(self, eye: BrowserCamera) -> str:
        """A warning if the camera is much closer or farther than in training."""
        usual = float(self._session.encoded.source.cameras.positions[0, 0].norm())
        ratio = math.hypot(*eye.position) / usual
        if 1 / FAR < ratio < FAR:
            return ""
        return f". Sampled at {ratio:.1f} times the input view's distance, at which the model works best."

    def _show(self, *shown: UInt8[Tensor, "h w 3"]) -> None:
        """Show images side by side below the controls."""
        session, picture = self._session, pictures.pair(*shown)
        if session.closed:
            return
        if self._picture is None:
            with session.panel.sampling.frame:
                self._picture = session.client.gui.add_image(picture, format="png")
        else:
            self._picture.image = picture

    def _show_buttons(self, *, drawing: bool) -> None:
        controls = self._session.panel.sampling
        controls.draw.visible = not drawing
        controls.cancel.visible = controls.progress.visible = drawing
        controls.progress.value = 0.0
