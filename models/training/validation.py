"""Held-out views that a run samples regularly: an image of them, and figures."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from data.images.display import colourise, grid
from data.images.files import write_png
from data.images.pixels import to_uint8
from data.images.quality import psnr
from data.scenes.batch import SceneBatch, Views, concatenate
from diffusion.samplers import SampleOptions
from models.base import NVSModel, Prediction
from models.device import autocast
from models.training.ema import EMA
from models.training.interruption import StopRequested, StopSignal


class HeldOut:
    """Held-out views, the same for the whole run, on the model's `device`.

    They are sampled with the averaged weights, with `options`, in `precision` (TrainConfig).
    """

    def __init__(self, batch: SceneBatch, options: SampleOptions, precision: str, device: torch.device):
        self._batch = batch.apply(lambda tensor: tensor.to(device))
        self._options, self._precision = options, precision

    def save(
        self,
        model: NVSModel,
        ema: EMA,
        path: Path,
        stop: StopSignal,
        tolerate_disk_errors: Callable[[], AbstractContextManager] = nullcontext,
    ) -> dict[str, float]:
        """Write the image of `look`; returns its figures, none if a stop is requested meanwhile."""
        try:
            picture, figures = self.look(model, ema, abandonable=stop.abandonable)
        except StopRequested:
            return {}
        with tolerate_disk_errors():
            write_png(path, picture)
        return figures

    def look(
        self, model: NVSModel, ema: EMA, *, abandonable: Callable[[], AbstractContextManager] = nullcontext
    ) -> tuple[UInt8[Tensor, "h w 3"], dict[str, float]]:
        """Sample the views: a row of images for each (`preview_picture`), the mean PSNR in dB of previews and
        samples, and the model's diagnostics (`NVSModel.diagnose`).

        Sampling may take minutes and may be interrupted by the context `abandonable`. The model is always
        left in training mode with its current weights.
        """
        source, target, seeds = self._batch.source, self._batch.target, self._batch.seeds[:, None]
        model.eval()
        ema.swap(model)
        try:
            with abandonable(), torch.no_grad(), autocast(self._precision, target.images.device):
                scene = model.encode(source)
                first = source.apply(lambda tensor: tensor[:, :1])  # latent poses are relative to it
                targets = model.read_targets(concatenate([first, target], 1))
                targets = targets.apply(lambda tensor: tensor[:, 1:])
                prediction = model.draw(scene, targets, seeds, self._options)
                health = model.diagnose(scene, target, seeds)
        finally:
            ema.swap(model)
            model.train()
        guesses = {"preview": prediction.preview, "sample": prediction.images}
        figures = {
            f"held_out_{name}_psnr": psnr(guess, target.images).mean()
            for name, guess in guesses.items()
            if guess is not None
        }
        measured = {name: value.item() for name, value in figures.items()}
        return preview_picture(source, prediction, target), measured | health


def preview_picture(source: Views, prediction: Prediction, truth: Views) -> UInt8[Tensor, "h w 3"]:
    """A row per target view: source, preview, depth, opacity, weights, sample, truth, if not None.

    The weights are those of the source shown, as a colour image: white is all, black is nothing.
    """
    cameras, num_target = truth.cameras, truth.images.shape[1]
    columns = [to_uint8(source.images[:, :1].expand(-1, num_target, -1, -1, -1))]
    if prediction.preview is not None:
        columns.append(to_uint8(prediction.preview))
    if prediction.depth is not None:
        near, far = cameras.near.min().item(), cameras.far.max().item()
        columns.append(colourise(prediction.depth[:, :, 0], near, far))
    if prediction.opacity is not None:
        columns.append(colourise(prediction.opacity[:, :, 0], 0.0, 1.0))
    if prediction.weights is not None:
        columns.append(to_uint8(2 * prediction.weights[:, :, 0] - 1))
    columns += [to_uint8(prediction.images), to_uint8(truth.images)]
    tiles = torch.stack([column.flatten(0, 1).cpu() for column in columns], dim=1)
    return grid(tiles.flatten(0, 1), columns=len(columns))
