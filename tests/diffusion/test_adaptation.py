"""diffusion/adaptation.py: a denoiser that was made to fit computes what it computed before."""

import pytest
import torch

from diffusion.adaptation import MAPPING, PROJ_IN, PROJ_OUT, adapt, add_condition, add_levels, levels
from diffusion.denoiser import DenoiserConfig, EDMDenoiser
from diffusion.k_diffusion import k_diffusion
from diffusion.layers import Downsample, Upsample
from tests.reference import rule

COARSE = {"channels": (32, 64), "depths": (1, 2), "self_attention": (False, True), "mapping_width": 32}
FINE = {**COARSE, "channels": (32, 32, 64), "depths": (2, 1, 2), "self_attention": (True, False, True)}
FINEST = {**COARSE, "channels": (32, 32, 32, 64), "depths": (1, 2, 1, 2), "self_attention": (False, True) * 2}
SINGLE = {**COARSE, "channels": (32,), "depths": (1,), "self_attention": (True,)}
PAIR = {**COARSE, "channels": (32, 32), "depths": (1, 1), "self_attention": (False, True)}
PLAIN = {"variance_head": False, "augment_condition": False}
KERNEL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])).double() / 64
ONE_LEVEL = (
    "denoiser: 1 finer level in front of 2, for images of 2 times the size; it passes everything through"
)


def denoiser(name: str = "ours.", condition_channels: int = 5, **config) -> EDMDenoiser:
    """No weight is zero, and every layer keeps the size of what it is given, as trained ones do."""
    network = EDMDenoiser(DenoiserConfig(**config), condition_channels=condition_channels).eval()
    rule.load_weights(network, name)
    return network


def loaded(network: EDMDenoiser, weights: dict) -> EDMDenoiser:
    network.load_state_dict(weights)  # strict: every name and shape
    return network


def inputs(channels: int = 5, height: int = 6, width: int = 10, views: int = 3):
    """Noisy images, noise levels and condition of one scene."""
    sigma = torch.logspace(-1, 1.7, views)[None]
    noisy = rule.randn("noisy", (1, views, 3, height, width)) * (0.5 + sigma[..., None, None, None])
    return noisy, sigma, rule.rand("condition", (1, views, channels, height, width))


def raw(network: EDMDenoiser, images, sigma, condition, augmentation) -> torch.Tensor:
    """All that comes out of the network, the map of log variances too."""
    caught = []
    handle = network.inner_model.proj_out.register_forward_hook(lambda *call: caught.append(call[-1]))
    network.inner_model(images, sigma, mapping_cond=augmentation, unet_cond=condition)
    handle.remove()
    return caught[0]


@torch.no_grad()
@pytest.mark.parametrize("variance_head", [False, True])
@pytest.mark.parametrize("augment_condition", [False, True])
def test_a_grafted_denoiser_equals_the_original_whatever_its_condition(variance_head, augment_condition):
    original = denoiser(
        "plain.", 0, **COARSE, variance_head=variance_head, augment_condition=augment_condition
    )
    ours = denoiser(**COARSE)
    before = ours(*inputs())
    loaded(ours, add_condition(original.state_dict(), ours.state_dict()))
    noisy, sigma, condition = inputs()
    expected = original(noisy, sigma, condition[:, :, :0])
    found = ours(noisy, sigma, condition)
    assert torch.equal(ours(noisy, sigma, torch.zeros_like(condition)), found)
    # More channels may be summed in another order: the last bits depend on the CPU.
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=2e-6)
    assert (before - expected).abs().max() > 0.1


@torch.no_grad()
def test_a_grafted_denoiser_equals_that_of_k_diffusion():
    theirs = k_diffusion().models.ImageDenoiserModelV1(3, 32, (1, 2), (32, 64), (False, True))
    rule.load_weights(theirs, "theirs.")
    theirs = k_diffusion().layers.Denoiser(theirs, sigma_data=0.5).eval()
    ours = denoiser(**COARSE)
    loaded(ours, add_condition(theirs.state_dict(), ours.state_dict()))
    noisy, sigma, condition = (value.double() for value in inputs())
    expected = theirs.double()(noisy[0], sigma[0])
    # To rounding: its filters between levels are written as sums over all channels, whose order differs.
    torch.testing.assert_close(ours.double()(noisy, sigma, condition)[0], expected, atol=1e-13, rtol=1e-13)


@torch.no_grad()
def test_the_loss_with_a_grafted_log_variance_is_half_the_squared_error():
    original, ours = denoiser("plain.", 0, **COARSE, **PLAIN), denoiser(**COARSE)
    loaded(ours, add_condition(original.state_dict(), ours.state_dict()))
    clean, sigma, condition = inputs()
    noise = rule.randn("noise", clean.shape)
    halved = original.loss(clean, noise, sigma, condition[:, :, :0]) / 2
    torch.testing.assert_close(ours.loss(clean, noise, sigma, condition), halved)


@torch.no_grad()
@pytest.mark.parametrize(("small", "large"), [(COARSE, FINE), (COARSE, FINEST), (SINGLE, PAIR)])
def test_a_grown_denoiser_is_the_smaller_one_between_filters(small, large):
    small, large = denoiser("small.", **small).double(), denoiser("large.", **large).double()
    added = levels(large.state_dict()) - levels(small.state_dict())
    loaded(large, add_levels(small.state_dict(), large.state_dict()))
    images, sigma, condition = (value[0].double() for value in inputs(height=16, width=24))
    told = rule.randn("augmentation", (3, 9)).double()

    down, up = Downsample(KERNEL), Upsample(4 * KERNEL)
    coarse_images, coarse_condition = images, condition
    for _ in range(added):
        coarse_images, coarse_condition = down(coarse_images), down(coarse_condition)
    expected = raw(small, coarse_images, sigma, coarse_condition, told)
    for _ in range(added):
        expected = up(expected)
    grown = raw(large, images, sigma, condition, told)
    assert grown.shape == (3, 4, 16, 24)
    assert expected.std() > 0.1
    torch.testing.assert_close(grown, expected, atol=1e-13, rtol=1e-12)


def test_what_was_added_learns_from_the_first_step():
    small, large = denoiser("small.", 0, **COARSE, **PLAIN), denoiser("large.", **FINE)
    adapted, _ = adapt(small.state_dict(), large.state_dict())
    loaded(large, adapted)
    noisy, sigma, condition = inputs(height=8, width=12)
    large.loss(noisy, rule.randn("noise", noisy.shape), sigma, condition).sum().backward()
    gradients = {name: weight.grad for name, weight in large.named_parameters()}
    assert (gradients[PROJ_IN][:, 3:] != 0).all()
    assert (gradients[PROJ_OUT][3] != 0).all()
    for end in (
        "d_blocks.0.1.main.6",
        "d_blocks.0.2.out_proj",
        "u_blocks.2.0.main.6",
        "u_blocks.2.1.out_proj",
    ):
        assert gradients[f"inner_model.u_net.{end}.weight"].any(), end
    assert gradients["inner_model.u_net.u_blocks.2.0.skip.weight"][:, 32:].any()


def test_adapting_does_both_says_so_and_changes_nothing_it_was_given():
    plain, own = (
        denoiser("plain.", 0, **COARSE, **PLAIN).state_dict(),
        denoiser(**FINE).state_dict(),
    )
    given = [{name: value.clone() for name, value in state.items()} for state in (plain, own)]
    adapted, notes = adapt(plain, own)
    assert {name: value.shape for name, value in adapted.items()} == {
        name: value.shape for name, value in own.items()
    }
    assert notes[:3] == [
        "denoiser: 5 condition channels added with zero weights",
        "denoiser: variance row added with zero weights: log variance 0 until it is trained",
        "denoiser: augmentation input (9 numbers) added with zero weights",
    ]
    assert notes[3].startswith(ONE_LEVEL)
    assert len(notes) == 4
    for state, before in zip((plain, own), given, strict=True):
        assert state.keys() == before.keys()
        assert all(torch.equal(state[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("change", "notes"),
    [
        ({"variance_head": False}, ["variance row"]),
        ({"augment_condition": False}, ["augmentation input"]),
        (PLAIN, ["variance row", "augmentation input"]),
    ],
)
def test_a_conditioned_denoiser_is_given_what_else_it_lacks(change, notes):
    weights, own = denoiser(**COARSE, **change).state_dict(), denoiser(**COARSE).state_dict()
    adapted, found = adapt(weights, own)
    assert len(found) == len(notes)
    assert all(note in line for note, line in zip(notes, found, strict=True))
    assert adapted.keys() == own.keys()
    assert torch.equal(adapted[PROJ_IN], weights[PROJ_IN])


def test_what_fits_already_or_cannot_be_compared_is_left_alone():
    own = denoiser(**FINE).state_dict()
    wider = {**COARSE, "channels": (64, 128)}
    others = ({}, {"something.else": torch.ones(2)}, {PROJ_IN: torch.ones(32, 3, 1, 1)})
    blocks = {name: value for name, value in own.items() if "u_net" in name}
    for weights in (own, blocks, *others, denoiser(**wider).state_dict(), denoiser(**FINEST).state_dict()):
        adapted, notes = adapt(weights, own)
        assert adapted is weights
        assert notes == []
    assert adapt(own, {}) == (own, [])


def test_other_numbers_of_channels_are_not_padded():
    weights, own = denoiser("w.", 4, **COARSE).state_dict(), denoiser(**COARSE).state_dict()
    assert add_condition(weights, own)[PROJ_IN] is weights[PROJ_IN]
    assert adapt(weights, own) == (weights, [])


def test_levels_are_counted():
    assert [levels(denoiser(**config).state_dict()) for config in (SINGLE, COARSE, FINEST)] == [1, 2, 4]
    assert levels({"inner_model.u_net.d_blocks.0.1.main.2.weight": torch.ones(1)}) == 0


def test_what_is_added_has_the_precision_of_the_weights():
    weights = {
        name: value.half() for name, value in denoiser("plain.", 0, **COARSE, **PLAIN).state_dict().items()
    }
    adapted, _ = adapt(weights, denoiser(**FINE).state_dict())
    assert {value.dtype for value in adapted.values()} == {torch.float16}
    assert adapted[MAPPING].shape == (32, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": (64, 32, 64)}, r"model\.denoiser\.channels=\[64, 32, 64\].*set .*=\[32, 32, 64\]"),
        ({"channels": (32, 32, 128)}, r"set model\.denoiser\.channels=\[32, 32, 64\]"),
        ({"depths": (2, 1, 3)}, r"d_blocks\.2\..* would be missing .*model\.denoiser\.depths"),
        ({"depths": (2, 1, 1)}, r"d_blocks\.2\..* must be absent; set model\.denoiser\.depths"),
        ({"self_attention": (True,) * 3}, "self_attention"),
        ({"mapping_width": 64}, r"set model\.denoiser\.mapping_width"),
        ({"variance_head": False}, r"set model\.denoiser\.variance_head"),
        ({"augment_condition": False}, r"set model\.denoiser\.augment_condition"),
        ({"condition_channels": 6}, r"set model\.renderer\.latent_channels"),
        (COARSE, r"2 levels cannot be extended to 2; put finer levels"),
        (SINGLE, r"2 levels cannot be extended to 1; put finer levels"),
    ],
)
def test_levels_that_cannot_be_grown_are_one_clear_line(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        add_levels(denoiser(**COARSE).state_dict(), denoiser(**{**FINE, **change}).state_dict())
    assert "\n" not in str(caught.value)
