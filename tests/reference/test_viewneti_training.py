"""Training steps and sampling with our modules of ViewNeTI follow the published code, on tiny networks."""

import pytest
import torch
from torch import nn

pytest.importorskip("diffusers")

from diffusion.samplers import guided
from diffusion.vp_schedule import add_noise
from models.stable_diffusion.base import Base
from models.stable_diffusion.layered_text import look_by_layers, predict, same_for_all
from models.stable_diffusion.losses import prediction_target
from models.stable_diffusion.noise_table import NoiseTable
from models.viewneti.config import ViewNeTISampleOptions
from models.viewneti.contexts import encode_by_layers, learn_word
from models.viewneti.denoising import denoise, whole_times
from models.viewneti.drawing import draw_latents, published_sigmas
from models.viewneti.mapper import Mapper
from tests.reference.rule import randn
from tests.reference.viewneti_networks import ARRAYS, LAYERS, mapper, published, text_encoder, unet

CAMERAS = published("A_cal64_scaled")
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
TABLE = NoiseTable(torch.cumprod(1 - BETAS, dim=0))
RUNS = {  # views of a batch, batches of a step
    "m2_v": (3, 1),
    "m2_eps": (3, 1),
    "m2_acc": (2, 3),
    **dict.fromkeys(("mode0", "mode2", "mode3", "mode4", "mode5"), (2, 1)),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def text_of(ids, time, cameras, objects: Mapper | None, view: Mapper | None, *, object_id: int):
    at = (ids == object_id).long().argmax(1)
    ways = {"num_layers": LAYERS, "alpha": 5.0}
    learned = [learn_word(objects, at, time, **ways)]
    if view is not None:
        learned.append(learn_word(view, torch.ones_like(at), time, CAMERAS[cameras], **ways))
    return encode_by_layers(text_encoder(), ids.clamp_max(49407), learned, num_layers=LAYERS)


def mappers_of(run: str) -> nn.ModuleDict:
    """By their names in the arrays."""
    names = {name.rsplit(".", 3)[0] for name in names_of(run)}
    found = nn.ModuleDict()
    for name in sorted(names):
        found[name.replace(".", "/")] = mapper(name.removeprefix("object."))
    return found


def names_of(run: str) -> list[str]:
    return ARRAYS[f"F_{run}_names"].tolist()


def parameters_of(run: str, mappers: nn.ModuleDict) -> list[nn.Parameter]:
    known = {name.replace("/", "."): value for name, value in mappers.named_parameters()}
    return [known[name] for name in names_of(run)]


@pytest.mark.parametrize("run", RUNS)
def test_training_follows_the_published_losses_gradients_and_weights(run):
    num, accumulate = RUNS[run]
    network, prediction = unet(), "epsilon" if run == "m2_eps" else "v_prediction"
    if f"F_{run}_prediction_type" in ARRAYS:
        prediction = str(ARRAYS[f"F_{run}_prediction_type"])
    look_by_layers(network)
    mappers = mappers_of(run)
    if run == "mode5":
        mappers["view"].requires_grad_(False)
    named = parameters_of(run, mappers)
    rate = float(ARRAYS[f"F_{run}_lr"]) if f"F_{run}_lr" in ARRAYS else 1e-3 * num
    trained = [value for value in named if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2)
    scenes = sorted(name for name in mappers if name != "view")
    losses, micro = published(f"F_{run}_loss"), 0
    lowest = int(published("F_mode3_scene_token").min()) if run == "mode3" else None
    for step in range(len(losses) // accumulate):
        optimizer.zero_grad(set_to_none=False)
        for _ in range(accumulate):
            ids, time = published(f"F_{run}_input_ids")[micro], published(f"F_{run}_t")[micro]
            token, cameras = int(published(f"F_{run}_scene_token")[micro]), published(f"F_{run}_cams")[micro]
            scene = scenes[token - lowest] if lowest else scenes[0]
            view = dict(mappers).get("view")
            text = text_of(ids, time.float(), cameras, mappers[scene], view, object_id=token)
            clean, noise = (
                randn(f"g.F.{run.removeprefix('m2_')}.{k}{micro}", (num, 4, 8, 16)) for k in ("z", "noise")
            )
            gamma = TABLE.gammas[time]
            predicted = predict(network, add_noise(clean, noise, gamma), time, text)
            loss = (predicted - prediction_target(clean, noise, gamma, prediction)).square().mean()
            (loss / accumulate).backward()
            assert loss.item() == pytest.approx(float(losses[micro]), abs=1e-5 if step == 0 else 1e-4)
            micro += 1
        norms = torch.tensor([-1.0 if p.grad is None else float(p.grad.norm()) for p in named])
        theirs = published(f"F_{run}_grad_norms")[step].float()
        learning = torch.tensor([p.requires_grad for p in named])
        torch.testing.assert_close(
            norms[learning], theirs[learning], atol=5e-4 if step == 0 else 5e-3, rtol=1e-4
        )
        optimizer.step()
        lengths = torch.stack([p.detach().norm() for p in named])
        torch.testing.assert_close(
            lengths, published(f"F_{run}_param_norms")[step].float(), atol=2e-4, rtol=1e-5
        )
    finals = {name.split(":")[1] for name in ARRAYS if name.startswith(f"F_{run}_final:")}
    known = dict(zip(names_of(run), named, strict=True))
    for name in finals & known.keys():
        torch.testing.assert_close(known[name], published(f"F_{run}_final:{name}"), atol=5e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("run", [0, 1])
def test_sampling_follows_the_published_solver(run):
    steps, guidance = ARRAYS[f"H{run}_settings"].tolist()
    kind = str(ARRAYS[f"H{run}_prediction_type"])
    network, encoder = unet(), text_encoder()
    look_by_layers(network)
    base = Base(network, nn.Identity(), encoder, None, TABLE, kind)
    options = ViewNeTISampleOptions(steps=int(steps), guidance=guidance)
    times = whole_times(TABLE.time_of(published_sigmas(TABLE, options.steps)))
    assert times[:-1].tolist() == published(f"H{run}_timesteps").tolist()
    ids = published("D_input_ids")[:1]
    objects, view = mapper("<object>"), mapper("view")
    plain = encode_by_layers(encoder, published("D_empty_input_ids"), [], num_layers=1).keys[0]
    empty = same_for_all(plain, LAYERS)

    for place, camera in enumerate(published("H_cams").tolist()[: 1 if run == 0 else 2]):
        contexts = []

        def conditional(noisy, sigma, camera=camera, contexts=contexts):
            time = whole_times(TABLE.time_of(sigma.float().expand(1)))
            text = text_of(ids, time, torch.tensor([camera]), objects, view, object_id=49411)
            contexts.append(text)
            return denoise(base, noisy, sigma, text)

        found = draw_latents(
            guided(conditional, lambda noisy, sigma: denoise(base, noisy, sigma, empty), guidance),
            (4, 8, 16),
            torch.zeros(1, dtype=torch.int64),
            options,
            TABLE,
            draw=lambda seeds, shape, *, stream: randn("g.H.x", (1, 4, 8, 16)),
        )
        theirs = published(f"H{run}_final_{place}")
        assert found.shape == theirs.shape
        assert float((found - theirs).abs().max()) < 2e-2
        if run == 0:
            for part, name in (("keys", "K"), ("values", "V")):
                ours = getattr(contexts[3], part)[[0, 7, 15], 0]
                torch.testing.assert_close(ours, published(f"H0_ctx_{name}_step3"), atol=5e-4, rtol=0)
