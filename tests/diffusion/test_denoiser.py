"""diffusion/denoiser.py and diffusion/layers.py, against stored figures and against k-diffusion itself."""

import itertools

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from diffusion.denoiser import LEAST_LOG_VARIANCE, DenoiserConfig, EDMDenoiser
from diffusion.k_diffusion import k_diffusion
from diffusion.layers import CheckpointedUNet, Downsample, FourierFeatures, Upsample

TINY = {"channels": (32, 64), "depths": (1, 1), "self_attention": (False, True), "mapping_width": 32}


def random_weights(network: nn.Module) -> nn.Module:
    """The network with no weight left at zero, so that every layer shows in the output."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    return network


def small(seed=0, **changes):
    """A denoiser and arguments of its loss: b=2, v=3, f=5, h=6, w=10."""
    generator = torch.Generator().manual_seed(seed)
    denoiser = random_weights(EDMDenoiser(DenoiserConfig(**{**TINY, **changes}), condition_channels=5)).eval()
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return denoiser, {
        "clean": 0.5 * draw(2, 3, 3, 6, 10),
        "noise": draw(2, 3, 3, 6, 10),
        "sigma": draw(2, 3).exp(),
        "condition": draw(2, 3, 5, 6, 10),
    }


def denoise(denoiser, inputs, **changes):
    arguments = {**inputs, **changes}
    noisy = arguments["clean"] + arguments["sigma"][..., None, None, None] * arguments["noise"]
    return denoiser(noisy, arguments["sigma"], arguments["condition"], arguments.get("augmentation"))


def test_the_full_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        denoiser = EDMDenoiser(DenoiserConfig(), condition_channels=16)
    assert sum(weight.numel() for weight in denoiser.parameters()) == 115_033_220


@pytest.mark.parametrize("variance_head", [True, False])
def test_the_loss_is_that_of_k_diffusion(variance_head):
    denoiser, inputs = small(variance_head=variance_head)
    layers = k_diffusion().layers
    theirs = (layers.DenoiserWithVariance if variance_head else layers.Denoiser)(denoiser.inner_model, 0.5)
    clean, noise, sigma, condition = (value.flatten(0, 1) for value in inputs.values())
    with torch.no_grad():
        ours = denoiser.loss(**inputs)
        expected = theirs.loss(clean, noise, sigma, unet_cond=condition).unflatten(0, (2, 3))
        denoised = theirs(clean + sigma[:, None, None, None] * noise, sigma, unet_cond=condition)
        torch.testing.assert_close(denoise(denoiser, inputs), denoised.unflatten(0, (2, 3)))
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("log_variance", [-11.0, -740.0, -1e6])
def test_a_log_variance_far_too_low_gives_a_finite_loss_and_is_raised(log_variance):
    denoiser, inputs = small(variance_head=True)
    bias = denoiser.inner_model.proj_out.bias
    with torch.no_grad():
        denoiser.inner_model.proj_out.weight[-1] = 0
        bias[-1] = log_variance
    loss = denoiser.loss(**inputs).mean()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in denoiser.parameters() if p.grad is not None)
    assert bias.grad[-1] < 0  # descent goes up


def test_the_bound_of_the_log_variance_is_the_loss_of_that_log_variance():
    denoiser, inputs = small(variance_head=True)
    losses = []
    for log_variance in (LEAST_LOG_VARIANCE, LEAST_LOG_VARIANCE - 5):
        with torch.no_grad():
            denoiser.inner_model.proj_out.weight[-1] = 0
            denoiser.inner_model.proj_out.bias[-1] = log_variance
        losses.append(denoiser.loss(**inputs))
    torch.testing.assert_close(*losses)


def test_without_variance_head_the_loss_is_the_weighted_error_of_the_denoised_image():
    denoiser, inputs = small(variance_head=False)
    variance, data_variance = inputs["sigma"].square(), 0.25
    error = (denoise(denoiser, inputs) - inputs["clean"]).square().mean(dim=(2, 3, 4))
    weight = (variance + data_variance) / (variance * data_variance)  # lambda of EDM table 1
    torch.testing.assert_close(denoiser.loss(**inputs), weight * error)


def test_the_state_dict_has_the_names_of_k_diffusion():
    theirs = k_diffusion().models.ImageDenoiserModelV1(
        3, 32, (1, 1), (32, 64), (False, True), mapping_cond_dim=9, unet_cond_dim=5, has_variance=True
    )
    ours, _ = small()
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        f"inner_model.{key}": value.shape for key, value in theirs.state_dict().items()
    }


def test_replaced_layers_compute_what_k_diffusion_computes():
    layers, images = k_diffusion().layers, torch.randn(2, 3, 6, 10)
    down, up, features = layers.Downsample2d(), layers.Upsample2d(), layers.FourierFeatures(1, 8)
    torch.testing.assert_close(Downsample(down.kernel)(images), down(images))
    torch.testing.assert_close(Upsample(up.kernel)(images), up(images))
    level = torch.randn(5, 1)
    torch.testing.assert_close(FourierFeatures(features.weight)(level), features(level))


def test_dropout_acts_in_training_only():
    denoiser, inputs = small(dropout=0.5)
    assert torch.equal(denoise(denoiser, inputs), denoise(denoiser, inputs))
    denoiser.train()
    assert not torch.equal(denoise(denoiser, inputs), denoise(denoiser, inputs))
    attention = next(
        layer for layer in denoiser.modules() if isinstance(layer, k_diffusion().layers.SelfAttention2d)
    )
    assert attention.dropout.p == 0.5
    assert attention.eval().dropout.p == 0


def test_attention_is_computed_by_torch_s_own_kernel(monkeypatch):
    denoiser, inputs = small(dropout=0.5)
    original, rates = torch.nn.functional.scaled_dot_product_attention, []

    def watched(*tensors, dropout_p):
        rates.append(dropout_p)
        return original(*tensors, dropout_p=dropout_p)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    denoise(denoiser, inputs)
    denoise(denoiser.train(), inputs)
    assert rates == [0, 0, 0.5, 0.5]  # one on the way down, one on the way up


def test_a_network_that_saves_memory_has_the_same_names_and_numbers():
    plain, inputs = small()
    saving, _ = small(checkpointing=True)
    assert list(saving.state_dict()) == list(plain.state_dict())
    assert isinstance(saving.inner_model.u_net, CheckpointedUNet)
    saving.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(denoise(saving, inputs), denoise(plain, inputs))
    for denoiser in (saving, plain):
        denoiser.loss(**inputs).sum().backward()
    for one, other in zip(saving.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_three_levels_join_the_right_skips_when_saving_memory():
    sizes = {"channels": (32, 64, 32), "depths": (1, 2, 1), "self_attention": (False, True, False)}
    (plain, _), (saving, _) = small(**sizes), small(**sizes, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    images, condition = torch.randn(1, 1, 3, 8, 12), torch.randn(1, 1, 5, 8, 12)
    found, expected = (denoiser(images, torch.full((1, 1), 0.7), condition) for denoiser in (saving, plain))
    assert torch.equal(found, expected)


def test_views_and_scenes_do_not_see_one_another():
    denoiser, inputs = small()
    together = denoise(denoiser, inputs)
    for scene, view in itertools.product(range(2), range(3)):
        alone = {key: value[scene : scene + 1, view : view + 1] for key, value in inputs.items()}
        torch.testing.assert_close(
            denoise(denoiser, alone)[0, 0], together[scene, view], atol=2e-5, rtol=1e-5
        )


def test_the_condition_reaches_the_network_unscaled_whatever_the_noise_level():
    denoiser, inputs = small()
    seen = []
    denoiser.inner_model.proj_in.register_forward_pre_hook(
        lambda module, arguments: seen.append(arguments[0])
    )
    for sigma in (0.02, 70.0):
        denoise(denoiser, inputs, sigma=torch.full((2, 3), sigma))
        assert torch.equal(seen[-1][:, 3:].unflatten(0, (2, 3)), inputs["condition"])
        assert 0.3 < seen[-1][:, :3].std() < 3  # the noisy image comes with unit variance


def test_a_fresh_denoiser_keeps_clean_images_and_distrusts_noisy_ones():
    denoiser = EDMDenoiser(DenoiserConfig(**TINY), condition_channels=5)  # the last layer starts at zero
    noisy, condition = torch.randn(1, 2, 3, 4, 4), torch.randn(1, 2, 5, 4, 4)
    denoised = denoiser(noisy, torch.tensor([[1e-4, 1e4]]), condition)
    torch.testing.assert_close(denoised[:, 0], noisy[:, 0])
    assert denoised[:, 1].abs().max() < 1e-7


def test_patches_are_pixels_side_by_side_in_the_channels():
    """Route two: k-diffusion's network without patches, on pictures whose patches were stacked by hand."""
    denoiser, inputs = small(patch_size=2, variance_head=False)
    config, plain = (
        denoiser.config,
        k_diffusion().models.ImageDenoiserModelV1(
            c_in=4 * 3,
            feats_in=32,
            depths=TINY["depths"],
            channels=TINY["channels"],
            self_attn_depths=TINY["self_attention"],
            mapping_cond_dim=9,
            unet_cond_dim=4 * 5,
        ),
    )
    plain.load_state_dict(denoiser.inner_model.state_dict())
    grow = lambda value: torch.nn.functional.pad(value, (0, 2, 0, 2))  # noqa: E731 (8 by 12: two levels of 2)
    noisy, condition = (grow(inputs[name]).flatten(0, 1) for name in ("clean", "condition"))
    sigma = inputs["sigma"].flatten()
    stacked = [
        torch.stack([value[..., row::2, column::2] for row in (0, 1) for column in (0, 1)], dim=2).flatten(
            1, 2
        )
        for value in (noisy, condition)
    ]
    with torch.no_grad():
        expected = plain(stacked[0], sigma, mapping_cond=torch.zeros(6, 9), unet_cond=stacked[1])
        ours = denoiser.inner_model(noisy, sigma, mapping_cond=torch.zeros(6, 9), unet_cond=condition)
    for number, (row, column) in enumerate(itertools.product((0, 1), (0, 1))):
        found = ours[..., row::2, column::2]
        torch.testing.assert_close(found, expected.unflatten(1, (3, 4))[:, :, number], rtol=0, atol=1e-5)
    assert (config.multiple, config.smallest) == (4, 8)


def test_patches_larger_than_the_image_are_one_clear_line():
    denoiser, inputs = small(patch_size=4)
    with pytest.raises(ValueError, match="use multiples of 8, at least 16"):
        denoise(denoiser, inputs)


def test_a_denoiser_centred_on_its_condition_is_one_of_the_difference():
    centred, inputs = small(centre="condition", sigma_data=0.3)
    plain, _ = small(sigma_data=0.3)
    plain.inner_model = centred.inner_model
    centre = 2 * inputs["condition"][:, :, :3] - 1
    difference = inputs["clean"] - centre
    torch.testing.assert_close(
        denoise(centred, inputs), centre + denoise(plain, inputs, clean=difference), atol=1e-5, rtol=1e-5
    )
    losses = centred.loss(**inputs), plain.loss(**{**inputs, "clean": difference})
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    assert (denoise(centred, inputs) - denoise(plain, inputs)).abs().mean() > 0.1


def test_a_centre_is_not_taught_by_the_difference_but_by_what_the_network_makes_of_the_condition():
    denoiser, inputs = small(centre="condition")
    network = denoiser.inner_model
    condition = inputs["condition"].requires_grad_()
    denoiser.loss(**inputs).sum().backward()
    taught = condition.grad.clone()
    condition.grad = None
    # The same with the centre as a constant.
    plain, _ = small()
    plain.inner_model = network
    difference = inputs["clean"] - (2 * condition.detach()[:, :, :3] - 1)
    plain.loss(**{**inputs, "clean": difference}).sum().backward()
    torch.testing.assert_close(taught, condition.grad)


def test_a_fresh_denoiser_centred_on_its_condition_returns_it_at_high_noise():
    denoiser = EDMDenoiser(DenoiserConfig(**TINY, centre="condition"), condition_channels=5)
    _, inputs = small()
    found = denoise(denoiser, inputs, sigma=torch.full((2, 3), 1e4))
    torch.testing.assert_close(found, 2 * inputs["condition"][:, :, :3] - 1, atol=1e-3, rtol=1e-3)


def test_no_augmentation_means_zeros_and_every_weight_takes_part():
    denoiser, inputs = small()
    losses = denoiser.loss(**inputs)
    torch.testing.assert_close(losses, denoiser.loss(**inputs, augmentation=torch.zeros(2, 3, 9)))
    losses.sum().backward()
    assert all(weight.grad is not None for weight in denoiser.parameters())


def test_a_denoiser_that_is_not_told_of_augmentation_says_so():
    denoiser, inputs = small(augment_condition=False)
    assert "inner_model.mapping_cond.weight" not in denoiser.state_dict()
    assert denoise(denoiser, inputs).isfinite().all()
    with pytest.raises(ValueError, match="augment_condition is off"):
        denoiser.loss(**inputs, augmentation=torch.zeros(2, 3, 9))


def test_autocast_changes_the_network_a_little_and_the_preconditioning_not_at_all():
    denoiser, inputs = small()
    exact = denoise(denoiser, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = denoise(denoiser, inputs)
        clean = denoise(denoiser, inputs, sigma=torch.full((2, 3), 1e-4))
        losses = denoiser.loss(**inputs)
    assert rounded.dtype == losses.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1 * exact.abs().max()
    torch.testing.assert_close(clean, inputs["clean"], atol=1e-3, rtol=0)  # bfloat16 would be 4e-3 off
    losses.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in denoiser.parameters())


def test_neighbouring_noise_levels_stay_apart_under_autocast():
    features = FourierFeatures(torch.randn(8, 1, generator=torch.Generator().manual_seed(1)))
    levels = torch.tensor([[1.0], [1.001]])  # one and the same number in bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near, far = features(levels)
    torch.testing.assert_close(near, features(levels[:1])[0])
    assert (near - far).abs().max() > 1e-3


@pytest.mark.parametrize(("height", "width"), [(7, 8), (8, 9), (2, 8)])
def test_a_size_that_the_levels_do_not_divide_is_one_clear_line(height, width):
    denoiser, _ = small()
    images = torch.zeros(1, 1, 3, height, width)
    message = f"height {height} and width {width} .* multiples of 2, at least 4"
    with pytest.raises(ValueError, match=message):
        denoiser(images, torch.ones(1, 1), torch.zeros(1, 1, 5, height, width))


def test_the_smallest_size_that_is_promised_works():
    denoiser, _ = small()
    shape = (4, 4)
    assert (
        denoiser(torch.zeros(1, 1, 3, *shape), torch.ones(1, 1), torch.zeros(1, 1, 5, *shape))
        .isfinite()
        .all()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (2, 2)}, "channels has 5, depths has 2, self_attention has 5"),
        ({"channels": (128, 128, 200, 512, 512)}, "200 cannot be split"),
        ({"depths": (2, 2, 0, 4, 4)}, "depths"),
        ({"mapping_width": 33}, "mapping_width"),
        ({"chanels": (32,)}, "chanels"),
    ],
)
def test_wrong_sizes_are_named(changes, message):
    with pytest.raises(ValidationError, match=message):
        DenoiserConfig(**changes)
