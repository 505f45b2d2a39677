"""The volume renderer: published figures beside ours, values and gradients."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from data.cameras.pinhole import Cameras, Rays
from nerf import published
from nerf.composite import absorption_weights, query
from nerf.renderer import LatentImages, VolumeRenderer
from nerf.sampling import RaySamples
from nerf.volume import FrustumVolume
from tests.reference import rule
from tests.reference.conventions import arrays, cameras, published_model, source_cameras, volume
from tests.reference.figure import Figure

CHANNELS, PLANES = 16, 64
# Float32 against float64 deviates by up to 5e-6, 1.5e-5 and 6e-6 in the published code itself.
LATENT, DEPTH, OPACITY = 3e-5, 1e-4, 3e-5
# A sample in a cell of small weight moves far when the cumulative weight is rounded; worst seen: 2.7e-4.
PLACE = 1e-3
SIZES = {"A": (32, 32, 32), "B": (32, 32, 32), "C": (16, 24, 40)}  # rays a side; volume's height and width


@dataclass(frozen=True)
class Case:
    """A scene of the published figures in our terms."""

    renderer: VolumeRenderer
    volume: FrustumVolume
    targets: Cameras

    @property
    def cosine(self) -> Tensor:
        """Depth gained per unit of distance, as pictures [b, t, 1, h, w]."""
        size = self.renderer.config.size
        return self.renderer.rays(self.targets).cosine.unflatten(-1, (size, size))[:, :, None]

    def flat_rays(self) -> Rays:
        """The rays of all target views of a scene in one row, [b, r]."""
        return self.renderer.rays(self.targets).apply(lambda tensor: tensor.flatten(1, 2))


def make_case(name: str, *, size: int | None = None) -> Case:
    """Scene A, B or C; `size` in place of its own number of rays a side."""
    stored = arrays("nerf_renderer")
    rays, height, width = SIZES[name]
    sources, targets = stored[f"{name}_src_poses"], stored[f"{name}_tgt_poses"]
    views = [
        rule.volume(sources.shape[1], CHANNELS, PLANES, height, width, tag=scene)
        for scene in range(len(sources))
    ]
    config = published_model().renderer.model_copy(update={"size": size or rays})
    renderer = VolumeRenderer(config, channels=CHANNELS)
    weights = {
        f"field.{layer}.{kind}": stored[f"mlp_{letter}{i}"]
        for i, layer in enumerate(("hidden", "output"))
        for letter, kind in (("w", "weight"), ("b", "bias"))
    }
    renderer.load_state_dict(weights)
    placed = volume(torch.stack(views), source_cameras(sources, stored[f"{name}_camera_k"]))
    return Case(renderer, placed, cameras(targets, stored[f"{name}_intrinsics"], rays, rays))


def pictures(name: str) -> Iterator[Figure]:
    """Latent image, depth along the ray, opacity, and the ends of the rays."""
    stored, case = arrays("nerf_renderer"), make_case(name)
    with torch.no_grad():
        found = case.renderer(case.volume, case.targets)
    rays = case.renderer.rays(case.targets)
    yield Figure("latent", found.latent, stored[f"{name}_image"], LATENT)
    yield Figure("depth", found.depth / case.cosine, stored[f"{name}_depth"], DEPTH)
    yield Figure("opacity", found.opacity, stored[f"{name}_weights_sum"], OPACITY)
    yield Figure("near", rays.near, stored[f"{name}_near"], 2e-6)
    yield Figure("far", rays.far, stored[f"{name}_far"], 2e-6)


def samples(name: str) -> Iterator[Figure]:
    """On some rays: cells of the importance pass, their weights, the samples drawn, the final weights."""
    stored, case = arrays("nerf_renderer"), make_case(name)
    config, rays, chosen = case.renderer.config, case.flat_rays(), stored[f"{name}_ray_idx"]
    num_views = case.targets.shape[1]

    def weights(placed: RaySamples) -> Tensor:
        density, _ = query(case.volume, case.renderer.field, rays, placed)
        return absorption_weights(density, placed.width)

    def on_chosen(values: Tensor) -> Tensor:
        return values.unflatten(1, (num_views, -1))[:, :, chosen]

    with torch.no_grad():
        coarse = published.uniform(rays, config.coarse)
        coarse_weights = weights(coarse)
        more = published.importance(rays, coarse, coarse_weights, config.fine)
        merged, _ = published.merge(rays, coarse, more)
        final_weights = weights(merged)
    borders = (coarse.distance[..., 1:] + coarse.distance[..., :-1]) / 2
    yield Figure("bins", on_chosen(borders), stored[f"{name}_sub_bins"], 2e-6)
    yield Figure("coarse weights", on_chosen(coarse_weights)[..., 1:-1], stored[f"{name}_sub_cw"], OPACITY)
    yield Figure("fine samples", on_chosen(more), stored[f"{name}_sub_fine"], PLACE)
    yield Figure("final weights", on_chosen(final_weights), stored[f"{name}_sub_weights"], OPACITY)


def gradients() -> Iterator[Figure]:
    """Of a weighted sum of everything that is rendered, with respect to the volume and the field."""
    stored, case = arrays("nerf_renderer"), make_case("B", size=16)
    intrinsics = torch.tensor([16.40625, 16.40625, 8.0, 8.0])
    targets = cameras(stored["B_tgt_poses"][:, 1:], intrinsics, 16, 16)
    case = replace(case, targets=targets)
    features = case.volume.features.requires_grad_()
    loss = weighted_sum(case.renderer(case.volume, targets), case.cosine)
    loss.backward()
    # Rows and planes back into the published order, then [v, channel and plane, h, w].
    gradient = features.grad.flip(3, 4).flatten(2, 3)[0]
    yield Figure("loss", loss, stored["G_loss"], 1e-3)
    relative = partial(relative_figure, stored)
    yield relative("G_vol_norm", gradient.norm())
    yield relative("G_vol_chan_sum", gradient.sum(dim=(2, 3)))
    yield relative("G_vol_slice", gradient[:, ::37, ::5, ::5])
    nonzero = (gradient != 0).sum().float()
    yield Figure("G_vol_nonzero", nonzero, stored["G_vol_nonzero"], 0.001 * float(stored["G_vol_nonzero"]))
    field = case.renderer.field
    for i, layer in enumerate((field.hidden, field.output)):
        yield relative(f"G_mlp_w{i}", layer.weight.grad)
        yield relative(f"G_mlp_b{i}", layer.bias.grad)


def relative_figure(stored: dict[str, Tensor], name: str, ours: Tensor) -> Figure:
    """Tolerance of one part in 10,000 of the largest entry."""
    return Figure(name, ours, stored[name], 1e-4 * float(stored[name].abs().max()))


def weighted_sum(found: LatentImages, cosine: Tensor) -> Tensor:
    """The scalar whose gradients were published."""
    parts = {"image": found.latent, "depth": found.depth / cosine, "weights_sum": found.opacity}
    return torch.stack(
        [(part * rule.randn(f"grad.{name}", part.shape)).sum() for name, part in parts.items()]
    ).sum()
