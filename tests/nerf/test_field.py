"""nerf/field.py: how several sources become one density and one latent colour."""

import math

import pytest
import torch

from nerf.field import FieldConfig, RadianceField

B, S, N, C, F = 2, 3, 5, 4, 6


def field(**changes) -> RadianceField:
    torch.manual_seed(1)
    return RadianceField(FieldConfig(hidden=7, **changes), channels=C, latent_channels=F).double()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(B, S, N, C, generator=generator, dtype=torch.float64)
    weight = torch.rand(B, S, N, generator=generator, dtype=torch.float64)
    weight[0, 1], weight[1, :, 2] = 0, 0  # a source that is padding; a point that no source sees
    return features, weight


def network_by_hand(net: RadianceField, x: torch.Tensor) -> list[float]:
    """The MLP with softplus in between, number by number."""
    hidden = [
        math.log1p(math.exp(float(row @ x + bias)))
        for row, bias in zip(net.hidden.weight, net.hidden.bias, strict=True)
    ]
    return [
        float(sum(w * h for w, h in zip(row, hidden, strict=True)) + bias)
        for row, bias in zip(net.output.weight, net.output.bias, strict=True)
    ]


@pytest.mark.parametrize("pool", ["before", "after"])
def test_pooling_equals_a_loop_over_points_and_sources(pool):
    net, (features, weight) = field(pool=pool), inputs()
    with torch.no_grad():
        density, latent = net(features, weight)
        for b in range(B):
            for n in range(N):
                total = float(weight[b, :, n].sum())
                if total == 0:
                    assert density[b, n] == 0
                    continue
                shares = [float(weight[b, s, n]) / total for s in range(S)]
                if pool == "before":
                    mean = sum(share * features[b, s, n] for s, share in enumerate(shares))
                    logits = network_by_hand(net, mean)
                else:
                    each = [network_by_hand(net, features[b, s, n]) for s in range(S)]
                    logits = [
                        sum(share * out[k] for share, out in zip(shares, each, strict=True))
                        for k in range(1 + F)
                    ]
                assert float(density[b, n]) == pytest.approx(math.log1p(math.exp(logits[0])))
                expected = [1 / (1 + math.exp(-value)) for value in logits[1:]]
                assert latent[b, n].tolist() == pytest.approx(expected)


def test_pooling_before_and_after_the_network_differ():
    features, weight = inputs()
    before, after = field(pool="before"), field(pool="after")
    assert not torch.allclose(before(features, weight)[0], after(features, weight)[0])


@pytest.mark.parametrize("pool", ["before", "after"])
def test_a_source_without_a_say_changes_nothing(pool):
    net, (features, weight) = field(pool=pool), inputs()
    other = features.clone()
    other[0, 1] = 1e3
    for one, two in zip(net(features, weight), net(other, weight), strict=True):
        torch.testing.assert_close(one, two)
    for one, two in zip(
        net(features[:1, [0, 2]], weight[:1, [0, 2]]), net(features[:1], weight[:1]), strict=True
    ):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("pool", ["before", "after"])
def test_order_and_repetition_of_the_sources_change_nothing(pool):
    net, (features, weight) = field(pool=pool), inputs()
    expected = net(features, weight)
    for order in ([2, 0, 1], [0, 1, 2, 0, 1, 2]):
        for one, two in zip(net(features[:, order], weight[:, order]), expected, strict=True):
            torch.testing.assert_close(one, two)


def test_a_point_that_no_source_sees_is_empty_and_finite():
    density, latent = field()(inputs()[0], torch.zeros(B, S, N, dtype=torch.float64))
    assert (density == 0).all()
    assert latent.isfinite().all()


@pytest.mark.parametrize("pool", ["before", "after"])
def test_the_field_has_the_gradients_of_its_formula(pool):
    net, (features, weight) = field(pool=pool), inputs()
    assert torch.autograd.gradcheck(
        lambda x: net(x, weight[:1, :, :3]), (features[:1, :, :3].clone().requires_grad_(),)
    )
