"""Every group of published arrays, with what yields it beside ours.

`python -m scripts.benchmark parity` prints the worst deviation of each; tests/reference/test_parity.py holds
them to their tolerances.
"""

from collections.abc import Callable, Iterator
from functools import partial

from tests.reference import denoiser_figures, encoder_figures, geometry_figures, renderer_figures
from tests.reference.figure import Figure

GROUPS: dict[str, Callable[[], Iterator[Figure]]] = {
    "rays": geometry_figures.rays,
    "paths": geometry_figures.paths,
    "dataset": geometry_figures.dataset,
    "frustum coordinates": geometry_figures.frustum_coordinates,
    **{f"renderer {case}": partial(renderer_figures.pictures, case) for case in "ABC"},
    **{f"renderer {case}, samples": partial(renderer_figures.samples, case) for case in "ABC"},
    "renderer gradients": renderer_figures.gradients,
    "encoder": encoder_figures.full,
    "denoiser, small": denoiser_figures.tiny,
    "denoiser": denoiser_figures.full,
    "trajectory, small": partial(denoiser_figures.trajectory, "tiny"),
    "trajectory with churn, small": partial(denoiser_figures.trajectory, "tiny", stochastic=True),
    "trajectory": partial(denoiser_figures.trajectory, "den64"),
    "noise schedules": denoiser_figures.schedules,
    "augmentation": denoiser_figures.augmentation,
}
