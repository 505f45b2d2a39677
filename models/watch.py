"""What a run tells of its weights and of its memory, beside its losses."""

import torch
from jaxtyping import Float
from torch import Tensor

from models.base import NVSModel
from models.ema import EMA
from models.optim import common_norm


class Watch:
    """Looks at a model and the average of its weights, when asked, without waiting for a GPU."""

    def __init__(self, model: NVSModel, ema: EMA, device: torch.device):
        """Begin; `device` is where the model is."""
        self._parts = {name: list(part.parameters()) for name, part in model.parts().items()}
        self._named, self._ema = dict(model.named_parameters()), ema
        self._gpu = device if device.type == "cuda" else None
        if self._gpu:
            torch.cuda.reset_peak_memory_stats(self._gpu)

    @torch.no_grad()
    def weights(self) -> dict[str, Float[Tensor, ""]]:
        """Norm of each part's weights, as "weight_norm/PART", and as "ema_drift" how far the averaged weights
        are from the current ones: the norm of the difference relative to that of the weights."""
        norms = {f"weight_norm/{name}": common_norm(weights) for name, weights in self._parts.items()}
        # One by one: a copy of all weights would cost as much memory as the weights.
        apart = [torch.dist(self._ema.shadow[name], weight) for name, weight in self._named.items()]
        drift = torch.stack(apart).norm() / torch.stack(list(norms.values())).norm()
        return norms | {"ema_drift": drift}

    def memory(self) -> dict[str, float]:
        """The most GPU memory that tensors took since the beginning, in MiB; nothing where there is no GPU.

        Since the beginning, not since the last time: it also says what the previews and checkpoints need, and
        leaves the count to whoever else reads it.
        """
        return {"gpu_memory_mib": torch.cuda.max_memory_allocated(self._gpu) / 2**20} if self._gpu else {}
