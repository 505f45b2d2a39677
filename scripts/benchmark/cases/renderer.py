"""The volume renderer: every backend against the plain one, and how its time scales.

Volumes are noise and the field is untrained: a haze, in which no sample can be skipped as occluded. Each
variant gets volumes in the memory format of its encoder; conversion counts as the encoder's time.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from data.cameras.pinhole import Cameras
from nerf.backends import BackendName, choose_backend
from nerf.renderer import Jitter, LatentImages, RendererConfig, VolumeRenderer
from nerf.volume import FrustumVolume
from scripts.benchmark.baseline import PlainRenderer
from scripts.benchmark.context import Bench
from scripts.benchmark.measure import Figure, Task, Variant, measure
from scripts.benchmark.roofline import renderer_work

SECTION = "renderer"
SCENES = ((1, 1), (3, 2))  # source and target views
OUTSIDE = ("mask", "clamp")
# The parameters varied in the chart; the others stay as configured, with one source and one target view.
GROWTH = {
    "full": {"rays": (16, 32, 64), "sources": (1, 2, 4, 8), "samples": (16, 32, 64, 128)},
    "small": {"rays": (2, 4), "sources": (1, 2), "samples": (4, 6)},
}
Growth = dict[str, dict[int, list[Figure]]]  # parameter -> value -> figures


def renderer_figures(bench: Bench) -> list[Figure]:
    """Forward, and forward and backward, for both rules about points outside the frusta."""
    return [figure for task in _tasks(bench) for figure in measure(task, bench)]


def renderer_growth(bench: Bench) -> Growth:
    """Forward for more and more rays, source views, and samples a ray."""
    config, amounts = bench.config.model.renderer, GROWTH[bench.size]
    growth: Growth = {axis: {} for axis in amounts}
    for side in amounts["rays"]:
        task = _forward(bench, config.model_copy(update={"size": side}), 1, 1, f"{side**2} rays")
        growth["rays"][side**2] = measure(task, bench)
    for num in amounts["sources"]:
        growth["sources"][num] = measure(_forward(bench, config, num, 1, f"{num} sources"), bench)
    for num in amounts["samples"]:
        changed = config.model_copy(update={"coarse": num, "fine": num})
        task = _forward(bench, changed, 1, 1, f"{2 * num} samples a ray")
        growth["samples"][2 * num] = measure(task, bench)
    return growth


def backend_names() -> tuple[str, ...]:
    """The backends of the renderer's config, without "auto"."""
    return tuple(name for name in get_args(BackendName) if name != "auto")


def backends(bench: Bench, config: RendererConfig) -> dict[str, torch.nn.Module]:
    """The plain renderer and every backend that works on the device, all with the same weights."""
    channels = bench.config.model.encoder.channels
    torch.manual_seed(0)
    first = VolumeRenderer(config.model_copy(update={"backend": "reference"}), channels=channels)
    renderers = {"plain": PlainRenderer(first)}
    for name in backend_names():
        problem = _problem(name, bench.device)
        if problem:
            bench.unmeasured.append(f"renderer, {name}: {problem}")
            continue
        renderer = VolumeRenderer(config.model_copy(update={"backend": name}), channels=channels)
        renderer.load_state_dict(first.state_dict())
        renderers[name] = renderer
    return {name: renderer.to(bench.device) for name, renderer in renderers.items()}


def _problem(name: str, device: torch.device) -> str:
    """Why a backend is not measured on a device; empty if it is."""
    if name == "fused" and device.type == "cpu":
        return "needs a GPU; that Triton can imitate one on a CPU says nothing of speed"
    try:
        choose_backend(name, device)
    except ValueError as error:
        return str(error)
    return ""


def _tasks(bench: Bench) -> Iterator[Task]:
    for num_source, num_target in SCENES:
        for outside in OUTSIDE:
            config = bench.config.model.renderer
            config = config.model_copy(update={"field": config.field.model_copy(update={"outside": outside})})
            name = f"{num_source} source, {num_target} target views, outside={outside}"
            yield _forward(bench, config, num_source, num_target, f"forward, {name}")
            yield _backward(bench, config, num_source, num_target, f"forward + backward, {name}")


def _forward(bench: Bench, config: RendererConfig, num_source: int, num_target: int, name: str) -> Task:
    """As when sampling: without gradients, samples in the middles of their cells."""
    volume, cameras = volume_of_noise(bench, num_source), bench.cameras(num_target, first=num_source)
    laid = as_encoded(volume)

    def run_of(renderer: torch.nn.Module) -> Callable[[], LatentImages]:
        entering = volume if isinstance(renderer, PlainRenderer) else laid
        return torch.no_grad()(lambda: renderer(entering, cameras))

    return _task(bench, config, volume, cameras, name, run_of, backward=False)


def _backward(bench: Bench, config: RendererConfig, num_source: int, num_target: int, name: str) -> Task:
    """As in training: samples jittered, gradients of the volumes' features and the field's weights."""
    volume, cameras = volume_of_noise(bench, num_source), bench.cameras(num_target, first=num_source)
    laid = as_encoded(volume)
    num_rays = num_target * config.size**2
    jitter = Jitter(bench.uniform(1, num_rays, config.coarse), bench.uniform(1, num_rays, config.fine))

    def run_of(renderer: torch.nn.Module) -> Callable[[], tuple[Tensor, ...]]:
        entering = volume if isinstance(renderer, PlainRenderer) else laid
        entering.features.requires_grad_()
        return lambda: gradients(renderer, entering, cameras, jitter)

    return _task(bench, config, volume, cameras, name, run_of, backward=True)


def gradients(
    renderer: torch.nn.Module, volume: FrustumVolume, cameras: Cameras, jitter: Jitter
) -> tuple[Tensor, ...]:
    """Of an arbitrary function of the images: those of the features, then those of the field's weights."""
    images = renderer(volume, cameras, jitter)
    total = images.latent.square().mean() + images.depth.square().mean() + images.opacity.square().mean()
    return torch.autograd.grad(total, [volume.features, *renderer.parameters()])


def volume_of_noise(bench: Bench, num_source: int) -> FrustumVolume:
    """Volumes [1, num_source] of the configured size, in memory plane by plane, as the plain encoder lays
    them."""
    config, side = bench.config.model.encoder, bench.config.data.image_size
    features = 2 * bench.uniform(1, num_source, config.channels, config.planes, side, side) - 1
    valid = torch.ones(1, num_source, dtype=torch.bool, device=bench.device)
    return FrustumVolume(features, bench.cameras(num_source), valid)


def as_encoded(volume: FrustumVolume) -> FrustumVolume:
    """The same numbers as our encoder lays them: pixel by pixel, the features of a point side by side."""
    features = volume.features.permute(0, 1, 4, 5, 3, 2).contiguous()
    return replace(volume, features=features.permute(0, 1, 5, 4, 2, 3))


def _task(
    bench: Bench,
    config: RendererConfig,
    volume: FrustumVolume,
    cameras: Cameras,
    name: str,
    run_of: Callable[[torch.nn.Module], Callable[[], object]],
    *,
    backward: bool,
) -> Task:
    variants = [Variant(key, run_of(renderer)) for key, renderer in backends(bench, config).items()]
    least = renderer_work(
        config,
        channels=volume.features.shape[2],
        voxels=volume.features[0, 0, 0].numel(),
        num_source=volume.valid.shape[1],
        num_target=cameras.shape[1],
        backward=backward,
    )
    return Task(SECTION, name, variants, least)
