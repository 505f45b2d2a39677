"""Our latent denoiser reproduces the figures of the published code, on tiny networks."""

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from diffusion.samplers import SampleOptions, sample
from diffusion.vp_schedule import add_noise
from models.stable_diffusion import latents, losses
from models.stable_diffusion.attention import attend_jointly
from models.stable_diffusion.control import widen_condition
from models.stable_diffusion.denoiser import (
    Condition,
    LatentDenoiser,
    guidance_terms,
    guided_denoise,
    with_context,
)
from models.stable_diffusion.noise_table import NoiseTable, churn_gamma
from tests.reference.stable_diffusion_networks import (
    ARRAYS,
    SIZES,
    control,
    numbers,
    published,
    rand,
    randn,
    text,
    unet,
    vae,
)

TABLE = NoiseTable(published("C_alphas_cumprod"))
NO_EDGE = (slice(None), slice(None), slice(None, None, 2), slice(None, None, 2))
GUIDANCES = ("none", "drop_control", "class_null", "three_way")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def denoiser(*, initial: bool = False, joint: bool = False) -> LatentDenoiser:
    model = LatentDenoiser(unet(), control(initial=initial), TABLE)
    if joint:
        attend_jointly(model.control)
        attend_jointly(model.unet)
    return model


def near(ours, name, limit):
    """Within `limit` of the array, in units of its largest entry."""
    theirs = published(name).double() if isinstance(name, str) else name.double()
    assert ours.shape == theirs.shape
    assert float((ours.detach().double() - theirs).abs().max()) <= limit * float(theirs.abs().max())


def inputs_of_a():
    t, labels = torch.tensor(SIZES["A"]["t"]), torch.tensor(SIZES["A"]["labels"])
    condition = Condition(randn("A.text", 3, 7, 24), rand("A.cond", 3, 16, 128, 128), labels)
    return randn("A.x", 3, 4, 16, 16), t, condition


@torch.no_grad()
def test_one_evaluation():
    x, t, condition = inputs_of_a()
    model = denoiser()
    near(model.predict(x, t, Condition(condition.text)), "A_unet_plain", 5e-5)
    near(model.predict(x, t, condition), "A_unet_ctrl", 5e-5)
    near(model.predict(x, t, condition, scale=SIZES["A"]["scale"]), "A_unet_ctrl_scaled", 5e-5)
    near(model.predict(x, torch.tensor(SIZES["A"]["tf"]), condition), "A_unet_ctrl_frac_t", 5e-5)
    flipped = Condition(condition.text, condition.features, 1 - condition.labels)
    near(model.predict(x, t, flipped), "A_unet_ctrl_flipped_labels", 5e-5)
    near(model.control.controlnet_cond_embedding(condition.features)[:, ::4], "A_cond_emb", 5e-5)

    weights = model.control.state_dict()
    key = "controlnet_cond_embedding.conv_in.weight"
    narrow = weights | {key: weights[key][:, :3]}
    model.control.load_state_dict(widen_condition(narrow, 16))
    near(model.predict(x, t, condition), "A_surgery_unet_ctrl", 5e-5)


@torch.no_grad()
def test_an_untrained_control_changes_nothing():
    x, t, condition = inputs_of_a()
    model = denoiser(initial=True)
    plain = model.predict(x, t, Condition(condition.text))
    assert torch.equal(model.predict(x, t, condition), plain)
    near(plain, "A_init_unet_ctrl", 5e-5)


def batch_of_b():
    flags = torch.tensor(SIZES["B"]["flags"])
    drawn = flags.bool()[:, None, None, None]
    features = torch.where(drawn, rand("B.uncond", 4, 16, 128, 128), rand("B.cond", 4, 16, 128, 128))
    condition = Condition(text("car", 4), features, flags)
    clean = latents.encode(vae(), 2 * rand("B.pix", 4, 3, 128, 128) - 1, randn("B.vae_eps", 4, 4, 16, 16))
    noise = losses.offset_noise(randn("B.noise", 4, 4, 16, 16), randn("B.offset", 4, 4, 1, 1))
    t = torch.tensor(SIZES["B"]["t"])
    return clean, noise, t, condition


def loss_of_b(model, batch, *, limit=losses.SNR_GAMMA):
    clean, noise, t, condition = batch
    gamma = TABLE.gammas[t]
    predicted = model.predict(add_noise(clean, noise, gamma), t, condition)
    weight = losses.min_snr_weight(gamma, "epsilon", limit)
    return losses.weighted_error(predicted, noise, weight)


def gradient_norms(model) -> torch.Tensor:
    gradients = {name: parameter.grad for name, parameter in model.control.named_parameters()}
    return torch.stack([gradients[name].norm() for name in numbers("B_grad_names")])


def test_a_training_step():
    model, batch = denoiser(), batch_of_b()
    clean, noise, t, condition = batch
    near(clean, "B_latents", 2e-5)
    near(add_noise(clean, noise, TABLE.gammas[t]), "B_noisy_latents", 2e-5)
    near(condition.features[:, ::5, ::16, ::16], "B_cond_used", 0)
    loss = loss_of_b(model, batch)
    near(loss, "B_loss", 2e-5)
    loss.backward()
    near(gradient_norms(model), "B_grad_norms", 2e-3)
    assert all(parameter.grad is None for parameter in model.unet.parameters())
    with torch.no_grad():
        near(loss_of_b(model, batch, limit=5.0), "B_loss_gamma5", 2e-5)


def test_first_steps_reach_what_the_zero_convolutions_open():
    model, batch = denoiser(initial=True), batch_of_b()
    trained = [parameter for parameter in model.control.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5)
    for step in range(3):
        optimizer.zero_grad()
        loss = loss_of_b(model, batch)
        near(loss, published("A_first_losses")[step], 2e-5)
        loss.backward()
        norms, theirs = gradient_norms(model), published("A_first_grad_norms")[step]
        assert torch.equal(norms == 0, theirs == 0)
        near(norms, theirs, 2e-3)
        optimizer.step()


def test_noise_levels():
    near(TABLE.sigmas, "C_sigmas", 2e-6)
    for steps in SIZES["C"]["tabs"]:
        near(TABLE.sampling_sigmas(steps, "linear_t"), f"C_linear_t_{steps}", 2e-6)
        near(TABLE.sampling_sigmas(steps, "karras"), f"C_karras_{steps}", 2e-6)
    torch.testing.assert_close(TABLE.time_of(published("C_sig20")), published("C_t20"), atol=1e-3, rtol=0)
    near(TABLE.sigma_of(published("C_tfrac")), "C_sigma_of_tfrac", 2e-6)


def terms_of_c(mode: str):
    label = 1 if mode == "unconditional" else 0
    noise = rand("C.uncond", 2, 16, 128, 128)
    features = noise if mode == "unconditional" else rand("C.cond", 2, 16, 128, 128)
    condition = Condition(text("car", 2), features, torch.full((2,), label))
    guidance = "drop_control" if mode == "unconditional" else mode
    weights = {"weight": SIZES["C"]["cfg"], "second_weight": SIZES["C"]["cfg2"]}
    return guidance_terms(guidance, condition, text("empty", 2), noise, **weights)


@torch.no_grad()
@pytest.mark.parametrize("mode", [*GUIDANCES, "unconditional"])
def test_guidance(mode):
    guided = guided_denoise(denoiser(), terms_of_c(mode))
    theirs = published(f"C_denoised_{mode}")
    for sigma, array in zip(published("C_eval_sigmas"), theirs, strict=True):
        x = 0.8 * randn("C.x0", 2, 4, 16, 16) + sigma * randn("C.xn", 2, 4, 16, 16)
        near(guided(x, sigma)[: len(array)], array, 1e-4)


def rule_noise(prefix: str, num: int):
    """The draws of a sampler, by the names of the figures."""
    names = {"initial": f"{prefix}.xT"}

    def draw(seeds, shape, *, stream):
        return randn(names.get(stream, f"{prefix}.{stream}"), num, *shape)

    return draw


def trajectory(denoise, prefix, num, *, steps, levels="linear_t", gamma=0.0, sampler="euler"):
    options = SampleOptions(sampler=sampler, steps=steps, stochastic=gamma > 0)
    levels = TABLE.sampling_sigmas(steps, levels)
    ways = {"sigmas": levels, "churn": (gamma, 1.0), "draw": rule_noise(prefix, num)}
    return sample(denoise, (4, 16, 16), torch.arange(num), options, **ways)


CHURN = churn_gamma(1.0)
TRAJECTORIES = {
    "linear_churn1": {"gamma": CHURN},
    "linear_churn0": {},
    "linear_churn_capped": {"gamma": churn_gamma(SIZES["C"]["cap"])},
    "linear_uncond": {"gamma": CHURN, "mode": "unconditional"},
    "linear_cfg1": {"mode": "none"},
    "karras_churn0": {"levels": "karras"},
    "karras_churn1": {"levels": "karras", "gamma": CHURN},
    "karras_readme_churn": {"levels": "karras", "gamma": churn_gamma(1.0, 40.0, 250.0)},
    "karras_heun": {"levels": "karras", "sampler": "heun"},
    "karras_dpmpp_2m": {"levels": "karras", "sampler": "dpmpp_2m"},
}


@torch.no_grad()
@pytest.mark.parametrize("name", TRAJECTORIES)
def test_a_trajectory(name):
    ways = dict(TRAJECTORIES[name])
    guided = guided_denoise(denoiser(), terms_of_c(ways.pop("mode", "drop_control")))
    final = trajectory(guided, "C", 2, steps=SIZES["C"]["steps"], **ways)
    near(final, f"C_traj_{name}_final", 2e-4)


@torch.no_grad()
def test_latents_and_images():
    images = 2 * rand("E.pix", 2, 3, 128, 128) - 1
    near(latents.encode(vae(), images, randn("E.eps", 2, 4, 16, 16)), "E_latents", 1e-5)
    near(latents.encode(vae(), images), "E_latents_mode", 1e-5)
    decoded = latents.decode(vae(), 1.2 * randn("E.lat", 2, 4, 16, 16))[:, :, ::8, ::8]
    near((decoded + 1) / 2, "E_clip_0_1", 1e-5)


@torch.no_grad()
def test_joint_views():
    model = denoiser(joint=True)
    x, t = randn("D.x", 8, 4, 16, 16), torch.tensor(SIZES["D"]["t"]).repeat_interleave(4)
    condition = Condition(
        text("car", 8), rand("D.cond", 8, 16, 128, 128), torch.tensor(SIZES["D"]["labels"]).flatten()
    )
    near(model.predict(x, t, condition, num_views=4), "D_joint", 5e-5)
    near(model.predict(x, t, condition), "D_independent", 5e-5)
    near(model.predict(x, t, condition, num_views=8)[NO_EDGE], "D_one_scene_of_all", 5e-5)
    alone = model.predict(x, t, Condition(condition.text), num_views=4)
    near(alone[NO_EDGE], "D_joint_unet_only", 5e-5)


@pytest.mark.parametrize(("name", "num_views"), [("joint", 4), ("independent", 1)])
def test_a_joint_training_step(name, num_views):
    model, flags = denoiser(joint=True), torch.tensor(SIZES["D"]["flags"]).flatten()
    given, drawn = (rand(f"D.{k}", 2, 4, 16, 128, 128).flatten(0, 1) for k in ("tcond", "tuncond"))
    features = torch.where(flags.bool()[:, None, None, None], drawn, given)
    images = 2 * rand("D.pix", 2, 4, 3, 128, 128).flatten(0, 1) - 1
    clean = latents.encode(vae(), images, randn("D.vae_eps", 8, 4, 16, 16))
    noise = losses.offset_noise(randn("D.noise", 8, 4, 16, 16), randn("D.offset", 8, 4, 1, 1))
    t = torch.tensor(SIZES["D"]["tt"]).repeat_interleave(4)
    gamma = TABLE.gammas[t]
    noisy = add_noise(clean, noise, gamma)
    near(noisy, "D_train_noisy_latents", 2e-5)
    predicted = model.predict(noisy, t, Condition(text("car", 8), features, flags), num_views=num_views)
    loss = losses.weighted_error(predicted, noise, losses.min_snr_weight(gamma, "epsilon"))
    near(loss, f"D_train_{name}_loss", 2e-5)
    loss.backward()
    near(gradient_norms(model), f"D_train_{name}_grad_norms", 2e-3)


def joint_terms(features, num, *, weight=SIZES["D"]["cfg"], label=0):
    condition = Condition(text("car", num), features, torch.full((num,), label))
    return guidance_terms("drop_control", condition, text("empty", num), None, weight=weight)


@torch.no_grad()
@pytest.mark.parametrize(("num", "name"), [(5, "D_denoised_right"), (9, "D_denoised9_right")])
def test_guidance_keeps_groups_of_views_whole(num, name):
    features = rand("D.gcond" if num == 5 else "D.gcond9", num, 16, 128, 128)
    guided = guided_denoise(denoiser(joint=True), joint_terms(features, num), num_views=num)
    theirs = published(name)
    for index, sigma in enumerate(published("D_eval_sigmas")[: 2 if num == 5 else 1]):
        x = 0.8 * randn("D.e0", num, 4, 16, 16) + sigma * randn("D.en", num, 4, 16, 16)
        ours = guided(x, sigma)
        near(ours if num == 5 else ours[NO_EDGE], theirs[index] if num == 5 else theirs, 1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("name", "gamma"), [("churn1", CHURN), ("churn0", 0.0)])
def test_new_views_beside_finished_ones(name, gamma):
    guided = guided_denoise(
        denoiser(joint=True), joint_terms(rand("D.gcond", 5, 16, 128, 128), 5), num_views=5
    )
    finished = 0.8 * randn("D.glat", 2, 4, 16, 16)
    beside = with_context(guided, finished, lambda call: randn(f"D.renoise.{call}", 2, 4, 16, 16))
    final = trajectory(beside, "D", 3, steps=SIZES["D"]["steps"], gamma=gamma)
    near(final, f"D_traj_right_{name}_final", 2e-4)
    images = ((latents.decode(vae(), final) + 1) * 127.5).to(torch.uint8)[:, :, ::8, ::8].movedim(1, -1)
    if name == "churn1":
        difference = images.int().numpy() - ARRAYS["D_traj_right_churn1_image_uint8"].astype(int)
        assert np.abs(difference).max() <= 1


@torch.no_grad()
def test_joint_views_without_context_and_without_condition():
    model = denoiser(joint=True)
    terms = joint_terms(rand("D.gcond", 5, 16, 128, 128)[:3], 3, weight=1.0)
    final = trajectory(
        guided_denoise(model, terms, num_views=3), "D", 3, steps=SIZES["D"]["steps"], gamma=CHURN
    )
    near(final, "D_traj_nocontext_cfg1_churn1_final", 2e-4)
    terms = joint_terms(rand("D.guncond", 2, 16, 128, 128), 2, label=1)
    pair = trajectory(
        guided_denoise(model, terms, num_views=2), "D", 2, steps=SIZES["D"]["steps"], gamma=CHURN
    )
    near(pair, "D_traj_uncond_pair_final", 2e-4)


def test_targets_are_blurred_as_published():
    image = rand("F.img", 3, 48, 40)
    for sigma in (1, 4, 9):
        near(losses.blur(image, sigma)[:, ::3, ::3], f"E_blur_s{sigma}", 1e-5)
    near(losses.blur(image, 4)[:, :6, :6], "E_blur_border_s4", 1e-5)
