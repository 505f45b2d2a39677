"""models/volumes/upsampling.py: one operation against the two that it stands for."""

import pytest
import torch
import torch.nn.functional as F

from models.volumes import upsampling
from models.volumes.encoder import UpBlock, VolumeUpBlock
from models.volumes.upsampling import double, product, worthwhile
from nerf.cpu.lookup import in_rows

N, ENTERING, BETWEEN, LEAVING, H, W = 2, 3, 5, 4, 3, 7


def weights() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(N, ENTERING, H, W), (ENTERING, BETWEEN, 2, 2), (BETWEEN,), (LEAVING, BETWEEN, 3, 3)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def in_two_steps(x, up, up_bias, convolution):
    return F.conv2d(F.conv_transpose2d(x, up, up_bias, stride=2), convolution, padding=1)


def test_one_operation_does_what_both_do_up_to_the_border():
    torch.testing.assert_close(double(*weights()), in_two_steps(*weights()), atol=1e-12, rtol=0)


def test_gradients_are_the_same():
    given = torch.randn(N, LEAVING, 2 * H, 2 * W, generator=torch.Generator().manual_seed(1)).double()
    found, expected = (
        torch.autograd.grad(function(*inputs), inputs, given)
        for function, inputs in ((double, weights()), (in_two_steps, weights()))
    )
    for gradient, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, reference, atol=1e-11, rtol=0)


def test_the_kernel_is_the_product_of_polynomials():
    _, up, _, convolution = weights()
    found = product(up, convolution)
    expected = torch.zeros(ENTERING, LEAVING, 4, 4, dtype=torch.float64)
    for y in range(3):
        for x in range(3):
            for v in range(2):
                for u in range(2):
                    pair = up[:, :, v, u] @ convolution[:, :, 2 - y, 2 - x].T
                    expected[:, :, y + v, x + u] += pair
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [2, 9])
def test_a_block_computes_the_same_both_ways(size, monkeypatch):
    torch.manual_seed(3)
    block, x, skip = UpBlock(6, 2), torch.randn(1, 6, size, size), torch.randn(1, 2, 2 * size, 2 * size)
    assert worthwhile(x) == (size == 9)
    found = block(x, skip)
    # Worst seen: 5e-7, float32.
    torch.testing.assert_close(found, block.conv(torch.cat([block.up(x), skip], dim=1)), atol=3e-6, rtol=0)


@pytest.mark.parametrize("size", [2, 9])
def test_a_volume_s_channels_are_planes_within_features_and_its_points_lie_together(size):
    torch.manual_seed(4)
    block, plain = VolumeUpBlock(6, 2, channels=3).double(), UpBlock(6, 2).double()
    plain.load_state_dict(block.state_dict())
    x = torch.randn(2, 6, size, size + 1).double().requires_grad_()
    skip = torch.randn(2, 2, 2 * size, 2 * size + 2).double().requires_grad_()
    found, expected = block(x, skip), plain(x, skip).unflatten(1, (3, 2))
    assert in_rows(found[None])
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    changes = [
        torch.autograd.grad((volume * weight).sum(), [x, skip, *network.parameters()])
        for volume, network in ((found, block), (expected, plain))
    ]
    torch.testing.assert_close(*changes)


def test_under_autocast_the_kernel_is_multiplied_in_full_precision():
    x, up, up_bias, convolution = (tensor.detach().float() for tensor in weights())
    exact = double(x, up, up_bias, convolution)
    with torch.autocast("cpu", torch.bfloat16):
        found = double(x, up, up_bias, convolution)
        rounded = in_two_steps(x, up, up_bias, convolution)
    assert found.dtype == torch.bfloat16
    # Rounding happens once here and twice there.
    assert (found - exact).abs().mean() < 1.2 * (rounded - exact).abs().mean()


def test_autocast_changes_nothing_in_the_backward_pass():
    x, up, _, convolution = (tensor.detach().float() for tensor in weights())
    inputs, gradients = (x.requires_grad_(), product(up, convolution).requires_grad_()), []
    for enabled in (False, True):
        loss = upsampling._Grow.apply(*inputs).square().sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            gradients.append(torch.autograd.grad(loss, inputs))
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.parametrize("wanted", [(0,), (1, 3)])
def test_gradients_may_be_wanted_of_some_inputs_alone(wanted):
    inputs = [tensor.detach().requires_grad_(number in wanted) for number, tensor in enumerate(weights())]
    expected, found = (
        torch.autograd.grad(way(*inputs).square().sum(), [inputs[number] for number in wanted])
        for way in (in_two_steps, double)
    )
    torch.testing.assert_close(found, expected)


def test_doubles_stay_doubles_under_autocast():
    inputs = [tensor.detach() for tensor in weights()]
    with torch.autocast("cpu", torch.bfloat16):
        found = double(*inputs)
    torch.testing.assert_close(found, double(*inputs), rtol=0, atol=0)
