"""Held-out views that a run looks at again and again: as a picture, and as figures."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import UInt8
from torch import Tensor

from data.batch import SceneBatch
from diffusion.samplers import SampleOptions
from models.base import NVSModel
from models.device import autocast
from models.ema import EMA
from models.preview import preview_picture, psnr


class HeldOut:
    """The same views for the whole run, on the model's `device`.

    They are drawn with the averaged weights, by `options`, in `precision` (TrainConfig).
    """

    def __init__(self, batch: SceneBatch, options: SampleOptions, precision: str, device: torch.device):
        self._batch = batch.apply(lambda tensor: tensor.to(device))
        self._options, self._precision = options, precision

    def look(
        self, model: NVSModel, ema: EMA, *, at_once: Callable[[], AbstractContextManager] = nullcontext
    ) -> tuple[UInt8[Tensor, "h w 3"], dict[str, float]]:
        """A row for each view (`preview_picture`); mean PSNR in dB of previews and of samples, and what the
        model makes of its own health (`NVSModel.diagnose`).

        The model comes back in training mode, with the weights it had, also where drawing is abandoned: that
        takes minutes, which `at_once` (StopSignal) can cut short.
        """
        source, target, seeds = self._batch.source, self._batch.target, self._batch.seeds[:, None]
        model.eval()
        ema.swap(model)
        try:
            with at_once(), torch.no_grad(), autocast(self._precision, target.images.device):
                scene = model.encode(source)
                prediction = model.draw(scene, target.cameras, seeds, self._options)
                health = model.diagnose(scene, target, seeds)
        finally:
            ema.swap(model)
            model.train()
        guesses = {"preview": prediction.preview, "sample": prediction.images}
        figures = {
            f"held_out_{name}_psnr": psnr(guess, target.images).mean() for name, guess in guesses.items()
        }
        measured = {name: value.item() for name, value in figures.items()}
        return preview_picture(source, prediction, target), measured | health
