"""Held-out views that a run looks at again and again: as a picture, and as figures."""

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

    def look(self, model: NVSModel, ema: EMA) -> tuple[UInt8[Tensor, "h w 3"], dict[str, float]]:
        """A row for each view (`preview_picture`), and mean PSNR in dB of previews and of samples.

        The model comes back in training mode, with the weights it had.
        """
        source, target = self._batch.source, self._batch.target
        model.eval()
        ema.swap(model)
        with torch.no_grad(), autocast(self._precision, target.images.device):
            prediction = model.sample(source, target.cameras, self._batch.seeds[:, None], self._options)
        ema.swap(model)
        model.train()
        guesses = {"preview": prediction.preview, "sample": prediction.images}
        figures = {
            f"held_out_{name}_psnr": psnr(guess, target.images).mean() for name, guess in guesses.items()
        }
        return preview_picture(source, prediction, target), {
            name: value.item() for name, value in figures.items()
        }
