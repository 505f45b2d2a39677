"""Rendering by blocks on the CPU against the reference, in float64 unless said otherwise."""

import itertools
import math
import threading
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from data.cameras.pinhole import Rays
from nerf import published, sampling
from nerf.backends import BACKENDS, choose_backend
from nerf.composite import render_reference
from nerf.cpu import lookup, mlp
from nerf.cpu import render as blocked
from nerf.cpu.render import render_blocked
from nerf.cpu.threads import OrderedSection, in_parallel
from nerf.field import FieldConfig, RadianceField
from nerf.sampling import RaySamples, Refinement
from nerf.volume import FrustumVolume
from tests.scenes import cameras

B, SIDE, N, C, F = 2, 3, 6, 5, 4
RULES = [
    {"pool": pool, "outside": outside}
    for pool, outside in itertools.product(("before", "after"), ("clamp", "mask"))
]


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch):
    """Several blocks, groups and strips also in small cases, none of them full at the end."""
    monkeypatch.setattr(blocked, "BLOCK", 40)
    monkeypatch.setattr(mlp, "GROUP", 16)
    monkeypatch.setattr(lookup, "STRIP", 7)
    monkeypatch.setattr(lookup, "SCATTERED", 9)


def volume(
    sources: int = 2, size: tuple[int, int, int] = (4, 5, 7), dtype=torch.float64, **rules
) -> FrustumVolume:
    features = torch.randn(B, sources, C, *size, generator=torch.Generator().manual_seed(1), dtype=dtype)
    valid = torch.tensor([[True] + [False] * (sources - 1), [True] * sources])
    there = cameras(B, sources).apply(lambda tensor: tensor.to(dtype))
    return FrustumVolume(features.requires_grad_(), there, valid, **rules)


def field(dtype=torch.float64, **config) -> RadianceField:
    torch.manual_seed(2)
    net = RadianceField(FieldConfig(hidden=7, density_scale=5, **config), channels=C, latent_channels=F).to(
        dtype
    )
    with torch.no_grad():
        net.hidden.weight.mul_(4)
    return net


def rays(dtype=torch.float64) -> Rays:
    seen_by = cameras(B, 2, seed=3).apply(lambda tensor: tensor.to(dtype))
    return seen_by.rays(SIDE, SIDE).apply(lambda tensor: tensor.flatten(1, 2))


def place(along: Rays, num: int = N, quadrature=sampling) -> RaySamples:
    amount = torch.rand(*along.near.shape, num, generator=torch.Generator().manual_seed(4))
    return quadrature.uniform(along, num, amount.to(along.near))


def compare(volume, field, along, samples, refinement=None, *, atol: float = 1e-10) -> None:
    """Results and every gradient of both, for gradients of the results that differ everywhere."""
    outcomes = []
    for render in (BACKENDS["reference"], render_blocked):
        found = render(volume, field, along, samples, refinement)
        parts = [found.latent, found.depth, found.opacity]
        given = [torch.linspace(-1, 2, part.numel()).view_as(part).to(part) for part in parts]
        wanted = [volume.features, *field.parameters()]
        outcomes.append([*parts, *torch.autograd.grad(parts, wanted, given)])
    for expected, found in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected, atol=atol, rtol=atol)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sources", [1, 3])
@pytest.mark.parametrize("quadrature", [sampling, published])
def test_blocks_compute_what_the_reference_computes(rules, align_corners, sources, quadrature):
    along, scene = rays(), volume(sources, align_corners=align_corners)
    samples = place(along, quadrature=quadrature)
    compare(scene, field(**rules), along, samples)
    jitter = torch.rand(*along.near.shape, 5, generator=torch.Generator().manual_seed(5)).double()
    compare(scene, field(**rules), along, samples, Refinement(quadrature, 5, jitter))
    compare(scene, field(**rules), along, samples, Refinement(quadrature, 5))


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 1, 3), (3, 6, 1)])
def test_a_volume_may_be_one_point_thin(size):
    along = rays()
    # (d - 1) / d of the reference is zero for one plane: every depth is at it.
    compare(volume(size=size), field(), along, place(along))


def pixelwise(features: torch.Tensor) -> torch.Tensor:
    """As the encoder lays them: pixel by pixel, plane by plane, feature by feature."""
    return features.permute(0, 1, 4, 5, 3, 2).contiguous().permute(0, 1, 5, 4, 2, 3)


# Each takes features [b, s, c, d, h, w] to others of the same numbers or fewer, laid otherwise in memory, and
# says whether they are still in rows.
LAYOUTS = {
    "pixel by pixel": (pixelwise, True),
    "point by point": (lambda features: features.movedim(2, -1).contiguous().movedim(-1, 2), True),
    "some of the sources": (lambda features: pixelwise(features.repeat(1, 2, 1, 1, 1, 1))[:, 1:3], True),
    "every second scene": (lambda features: pixelwise(features.repeat_interleave(2, dim=0))[::2], True),
    "sources before scenes": (lambda features: pixelwise(features.transpose(0, 1)).transpose(0, 1), True),
    "cropped": (lambda features: pixelwise(padded(features))[..., :5, :7], True),
    "one for all scenes": (lambda features: pixelwise(features[:1]).expand_as(features), False),
    "every second feature": (
        lambda features: pixelwise(features.repeat_interleave(2, dim=2))[:, :, ::2],
        False,
    ),
}


def padded(features: torch.Tensor) -> torch.Tensor:
    """A row and three columns more."""
    return torch.nn.functional.pad(features, (0, 3, 0, 1))


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("pool", ["before", "after"])
def test_however_a_volume_lies_in_memory_it_and_its_gradient_are_the_same(name, pool):
    along, scene = rays(), volume(2)
    lay, stays = LAYOUTS[name]
    laid = replace(scene, features=lay(scene.features))
    assert lookup.in_rows(laid.features) == stays
    compare(laid, field(pool=pool), along, place(along), Refinement(sampling, 5))


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 1, 3), (3, 6, 1)])
@pytest.mark.parametrize("sources", [1, 2])
def test_a_thin_volume_may_lie_pixel_by_pixel(size, sources):
    along, scene = rays(), volume(sources, size)
    compare(replace(scene, features=pixelwise(scene.features)), field(), along, place(along))


def test_a_volume_unpacked_from_where_it_was_saved_may_lie_otherwise():
    along, net, gradients = rays(), field(), []
    for unpack in (lambda saved: saved, torch.Tensor.contiguous):
        scene = volume(2)
        laid = replace(scene, features=pixelwise(scene.features))
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
            latent = render_blocked(laid, net, along, place(along)).latent
        gradients.append(torch.autograd.grad(latent.square().sum(), [scene.features, *net.parameters()]))
    torch.testing.assert_close(*gradients)


def test_volumes_made_in_inference_mode_still_train_the_field():
    along, net = rays(), field()
    with torch.inference_mode():
        scene = volume(2).apply(lambda tensor: tensor.detach().clone())
    expected, found = (
        torch.autograd.grad(render_blocked(each, net, along, place(along)).latent.sum(), [*net.parameters()])
        for each in (volume(2), scene)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("rules", RULES)
def test_eight_sources_and_a_single_sample(rules):
    along = rays()
    compare(volume(8), field(**rules), along, place(along, 1))


@pytest.mark.parametrize("rules", RULES)
def test_a_scene_without_valid_source_is_white(rules):
    along, scene = rays(), volume(2)
    scene = replace(scene, valid=torch.tensor([[False, False], [True, True]]))
    compare(scene, field(**rules), along, place(along))
    found = render_blocked(scene, field(**rules), along, place(along))
    assert (found.latent[0] == 1).all()
    assert (found.opacity[0] == 0).all()


@pytest.mark.parametrize("rules", RULES)
def test_rays_that_miss_every_frustum(rules):
    along = rays()
    missing = replace(along, origins=along.origins + 50.0)
    compare(volume(), field(**rules), missing, place(missing))


@pytest.mark.parametrize("bias", [-1e4, 1e4])
def test_density_of_zero_and_of_a_wall(bias):
    along, net = rays(), field(outside="clamp")
    with torch.no_grad():
        net.output.bias[0] = bias
    compare(volume(), net, along, place(along))
    opacity = render_blocked(volume(), net, along, place(along)).opacity
    torch.testing.assert_close(opacity, torch.full_like(opacity, float(bias > 0)), atol=1e-12, rtol=0)


def test_features_so_large_that_their_exponential_overflows():
    along, scene = rays(torch.float32), volume(dtype=torch.float32)
    steep = replace(scene, features=(1e3 * scene.features.detach()).requires_grad_())
    assert not mlp._is_moderate(steep.features[0, 0].flatten(1).t(), mlp.Layers.of(field(torch.float32)))
    # Both in float32: the logits are thousands, so that rounding of the last bit is 1e-4 of a logit.
    compare(steep, field(torch.float32), along, place(along), atol=3e-3)


def test_single_precision_agrees_to_rounding():
    along = rays(torch.float32)
    # Worst seen: 2e-6, of a gradient of size 3.
    compare(volume(dtype=torch.float32), field(torch.float32), along, place(along), atol=1e-5)


def test_a_volume_that_lies_point_by_point_in_memory_is_not_copied():
    scene = volume(2, dtype=torch.float32)
    beside = replace(scene, features=scene.features.detach().movedim(2, -1).contiguous().movedim(-1, 2))
    along = rays(torch.float32).apply(lambda tensor: tensor[1])
    copied, table = (
        lookup.Sources(each, 1, along).table(each.features[1].detach()) for each in (scene, beside)
    )
    assert table.data_ptr() == beside.features[1].data_ptr()
    assert copied.data_ptr() != scene.features[1].data_ptr()
    torch.testing.assert_close(copied, table, rtol=0, atol=0)


def test_padding_is_never_looked_at():
    along, scene = rays(), volume(3)
    broken = scene.features.detach().clone()
    broken[~scene.valid] = math.nan
    pair = [
        replace(scene, features=features.requires_grad_()) for features in (scene.features.detach(), broken)
    ]
    outcomes = []
    for each in pair:
        latent = render_blocked(each, field(pool="after"), along, place(along)).latent
        outcomes.append((latent, *torch.autograd.grad(latent.square().sum(), each.features)))
    assert all(torch.equal(one, other) for one, other in zip(*outcomes, strict=True))


@pytest.mark.parametrize("rules", RULES)
def test_weights_that_are_no_numbers_end_in_pictures_that_are_none(rules):
    along, net = rays(torch.float32), field(torch.float32, **rules)
    with torch.no_grad():
        net.output.weight[0, 0] = math.nan
    found = render_blocked(volume(dtype=torch.float32), net, along, place(along), Refinement(sampling, 5))
    assert found.latent.isnan().any()


def test_no_gradient_of_the_volume_where_none_is_wanted():
    along, scene, net = rays(), volume(), field()
    scene = replace(scene, features=scene.features.detach())
    render_blocked(scene, net, along, place(along)).latent.sum().backward()
    assert scene.features.grad is None
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_no_second_derivative():
    along, scene = rays(), volume()
    latent = render_blocked(scene, field(), along, place(along)).latent
    (gradient,) = torch.autograd.grad(latent.square().sum(), scene.features, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_gradients_that_would_be_lost_are_refused():
    along = rays()
    samples = place(along)
    moved = replace(along, origins=along.origins.clone().requires_grad_())
    with pytest.raises(ValueError, match=r"Rays\.origins.*renderer\.backend=reference"):
        render_blocked(volume(), field(), moved, samples)
    turned = volume()
    turned.cameras.near.requires_grad_()
    with pytest.raises(ValueError, match=r"Cameras\.near"):
        render_blocked(turned, field(), along, samples)


def test_autocast_changes_nothing_in_the_backward_pass():
    along, gradients = rays(torch.float32), []
    for enabled in (False, True):
        scene, net = volume(dtype=torch.float32), field(torch.float32)
        loss = render_blocked(scene, net, along, place(along)).latent.square().sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            gradients.append(torch.autograd.grad(loss, [scene.features, *net.parameters()]))
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_every_sample_is_evaluated_once(monkeypatch):
    seen = []
    evaluate = mlp.forward

    def counted(features, layers):
        seen.append(len(features))
        return evaluate(features, layers)

    monkeypatch.setattr(mlp, "forward", counted)
    along = rays()
    render_blocked(volume(), field(outside="clamp"), along, place(along), Refinement(sampling, 5))
    assert sum(seen) == along.near.numel() * (N + 5)


def test_bits_do_not_depend_on_the_number_of_threads():
    along, outcomes = rays(torch.float32), []
    before = torch.get_num_threads()
    for num_threads in (1, 3, 2):
        torch.set_num_threads(num_threads)
        scene, net = volume(dtype=torch.float32), field(torch.float32)
        latent = render_blocked(scene, net, along, place(along), Refinement(sampling, 5)).latent
        assert torch.get_num_threads() == num_threads
        outcomes.append(
            [latent, *torch.autograd.grad(latent.square().sum(), [scene.features, *net.parameters()])]
        )
    torch.set_num_threads(before)
    for first, *others in zip(*outcomes, strict=True):
        assert all(torch.equal(first, other) for other in others)


def test_a_piece_of_work_that_fails_keeps_nobody_waiting():
    turns, order = OrderedSection(), []

    def work(number: int) -> None:
        with suppress(ValueError), turns.number(number) as wait:
            if number == 1:
                raise ValueError("before its turn")
            wait()
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in (2, 1, 3, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert order == [0, 2, 3]


def test_errors_in_threads_reach_the_caller():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda number: 1 / number, [1, 0, 2]))
    torch.set_num_threads(before)


def test_inference_mode_renders_the_same():
    along = rays(torch.float32)
    expected = render_blocked(volume(dtype=torch.float32), field(torch.float32), along, place(along)).latent
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with torch.inference_mode():
        found = render_blocked(
            volume(dtype=torch.float32).apply(torch.clone), field(torch.float32), along, place(along)
        )
    torch.set_num_threads(before)
    assert torch.equal(found.latent, expected)


def test_the_backend_follows_the_device():
    cpu = torch.device("cpu")
    assert choose_backend("auto", cpu) == "blocked"
    assert choose_backend("reference", torch.device("cuda")) == "reference"
    with pytest.raises(ValueError, match="blocked needs the CPU, but the model is on cuda; use auto"):
        choose_backend("blocked", torch.device("cuda"))
    assert BACKENDS["reference"] is not render_reference  # it knows refinements
