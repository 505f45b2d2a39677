"""The noise levels that a Stable Diffusion base was trained on, as times and as EDM's sigmas.

A base knows a table of levels, one for each whole time; between them, time runs linearly in ln(sigma)
(k-diffusion's wrapper of such networks does the same).
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from diffusion.k_diffusion import k_diffusion
from diffusion.vp_schedule import sigma_from_gamma

RHO = 7.0  # of Karras et al. 2022, equation 5
LARGEST_GAMMA = 2**0.5 - 1  # rise of sigma before a step (the same, algorithm 2)
Levels = Literal["karras", "linear_t"]


class NoiseTable:
    """Shares of the image's variance that are left at times 0, 1, ..., falling, as float32.

    They must be the float32 cumulative product that the base was trained with: a float64 one moves
    denoised latents by 1e-4 of their size.
    """

    def __init__(self, gammas: Float[Tensor, "k"]):
        self.gammas = gammas.float().cpu()
        self.sigmas = sigma_from_gamma(self.gammas)  # rising
        self._logs = self.sigmas.log()

    @property
    def last_time(self) -> int:
        """The largest time."""
        return len(self.gammas) - 1

    def time_of(self, sigma: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Time at which noise has the level sigma, not rounded; the nearest end outside the table."""
        logs = self._logs.to(sigma.device)
        log = sigma.float().log().clamp(logs[0], logs[-1])
        below = (torch.searchsorted(logs, log.contiguous(), right=True) - 1).clamp(0, self.last_time - 1)
        share = (log - logs[below]) / (logs[below + 1] - logs[below])
        return below + share

    def sigma_of(self, time: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The inverse of `time_of` inside the table."""
        logs = self._logs.to(time.device)
        below = time.floor().long().clamp(0, self.last_time - 1)
        return torch.lerp(logs[below], logs[below + 1], time - below).exp()

    def sampling_sigmas(
        self, steps: int, levels: Levels, *, ends: tuple[float, float] = (0.0, math.inf), rho: float = RHO
    ) -> Float[Tensor, "k"]:
        """Falling noise levels from one end of the table to the other, `steps` of them, and a 0.

        `ends` (smallest, largest) that are inside the table take the place of its own.
        """
        low, high = max(ends[0], float(self.sigmas[0])), min(ends[1], float(self.sigmas[-1]))
        if levels == "karras":
            return k_diffusion().sampling.get_sigmas_karras(steps, low, high, rho)
        last, first = self.time_of(torch.tensor([low, high], device="cpu")).tolist()
        times = torch.linspace(first, last, steps, device="cpu")
        return torch.cat([self.sigma_of(times), torch.zeros(1)])


def churn_gamma(churn: float, numerator: float = 40.0, denominator: float = 256.0) -> float:
    """Rise of sigma before each step for a strength of churn: 1 is the published code's 40 / 256."""
    return min(churn * numerator / denominator, LARGEST_GAMMA)
