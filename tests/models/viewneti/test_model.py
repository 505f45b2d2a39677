"""What ViewNeTI promises, on a tiny base."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from config.run import load_config, validate_config
from data.cameras.pinhole import cameras_from_poses
from data.cameras.poses import orbit
from models.stable_diffusion.base import load_base
from models.stable_diffusion.layered_text import (
    LayeredText,
    look_by_layers,
    predict,
    same_for_all,
    text_layers,
)
from models.stable_diffusion.noise_table import NoiseTable
from models.viewneti.cameras import CameraCode, camera_numbers, scale_numbers
from models.viewneti.config import ViewNeTIConfig, ViewNeTISampleOptions
from models.viewneti.contexts import encode_by_layers, learn_word
from models.viewneti.drawing import draw_latents
from models.viewneti.mapper import Mapper
from models.viewneti.model import ViewNeTI
from tests.models.stable_diffusion.tiny_base import write_base
from tests.scenes import TINY_FAMILIES, cameras, scene_batch, views

ROOT = Path(__file__).parents[3]
SIGMAS, WIDTH, LAYERS = (0.03, 2.0, 0.5, 0.5), 24, 10


@pytest.fixture(scope="module")
def base(base_folder):
    return load_base(str(base_folder))


@pytest.fixture
def make(base_folder):
    def made(**changes) -> ViewNeTI:
        document = TINY_FAMILIES["viewneti"] | changes
        document["base"] = document["base"] | {"path": str(base_folder)}
        torch.manual_seed(4)
        return ViewNeTI(ViewNeTIConfig.model_validate(document))

    return made


def words(*, alpha: float = 2.0, time=(700, 30), camera=((0.1, 0.2), (-0.5, 0.9)), view_at=(1, 2)):
    """Two texts with an object at place 4 and a view, and their learned words."""
    torch.manual_seed(1)
    objects = Mapper(SIGMAS[:2], hidden=16, width=WIDTH, norm=1.3)
    view = Mapper(SIGMAS, hidden=64, width=WIDTH, norm=0.7)
    ways = {"num_layers": LAYERS, "alpha": alpha}
    times = torch.tensor(time).float()
    ids = torch.arange(12).repeat(2, 1)
    learned = [
        learn_word(objects, torch.tensor([4, 4]), times, **ways),
        learn_word(view, torch.tensor(view_at), times, torch.tensor(camera), **ways),
    ]
    return ids, learned


@torch.no_grad()
def text(base, **ways) -> LayeredText:
    ids, learned = words(**ways)
    return encode_by_layers(base.text_encoder, ids, learned, num_layers=LAYERS)


def test_words_are_as_long_as_the_reference_word(make, base):
    model = make()
    table = base.text_encoder.get_input_embeddings().weight
    for mapper, word in ((model.objects[0], "car"), (model.view, "view")):
        (number,) = base.tokenizer(word, add_special_tokens=False).input_ids
        inputs = torch.rand(5, mapper.frequencies.shape[1])
        torch.testing.assert_close(mapper(inputs)[0].norm(dim=1), table[number].norm().expand(5))


def test_without_alpha_values_are_keys(base):
    found = text(base, alpha=0.0)
    torch.testing.assert_close(found.keys, found.values)


def test_values_differ_from_keys_at_the_learned_words_alone(base):
    found = text(base)
    moved = (found.keys - found.values).abs().amax(dim=(0, 3)) > 1e-6
    assert moved.nonzero().tolist() == [[0, 1], [0, 4], [1, 2], [1, 4]]


def test_a_camera_changes_its_own_text_alone_and_only_from_its_word_on(base):
    one, other = text(base), text(base, camera=((0.1, 0.2), (-0.5, 0.1)))
    moved = (one.keys - other.keys).abs().amax(dim=(0, 3)) > 1e-6
    assert not moved[0].any()
    assert moved[1].tolist() == [False] * 2 + [True] * 10


def test_all_layers_in_one_batch_are_the_layers_one_by_one(base):
    ids, learned = words()
    together = text(base)
    for layer in range(LAYERS):
        own = slice(2 * layer, 2 * layer + 2)
        alone = [replace(w, at=w.at[own], word=w.word[own], bypass=w.bypass[own]) for w in learned]
        with torch.no_grad():
            found = encode_by_layers(base.text_encoder, ids, alone, num_layers=1)
        torch.testing.assert_close(found.keys[0], together.keys[layer], atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(found.values[0], together.values[layer], atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_equal_texts_in_all_layers_are_the_plain_network(base_folder):
    network = load_base(str(base_folder)).unet
    x, time, state = torch.randn(2, 4, 8, 8), torch.tensor([3, 900]), torch.randn(2, 12, WIDTH)
    plain = network(x, time, state).sample
    look_by_layers(network)
    torch.testing.assert_close(predict(network, x, time, same_for_all(state, LAYERS)), plain)


@torch.no_grad()
@pytest.mark.parametrize(("mid_block", "layers"), [(True, 10), (False, 9)])
def test_layers_are_numbered_as_they_run(tmp_path, mid_block, layers):
    network = load_base(str(write_base(tmp_path, mid_block=mid_block))).unet
    look_by_layers(network)
    ran = []
    for name in text_layers(network):
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    states = torch.randn(layers, 1, 5, WIDTH)
    x, time = torch.randn(1, 4, 8, 8), torch.tensor([500])
    predict(network, x, time, LayeredText(states, states))
    assert ran == text_layers(network)
    assert len(ran) == layers

    seen = {}
    for name in ran:
        module = network.get_submodule(name)
        module.register_forward_hook(
            lambda module, given, out, name=name: seen.setdefault(name, []).append(out)
        )
    for moved in (3, layers - 1):
        seen.clear()
        changed = states.clone()
        changed[moved] += 1
        for keys in (states, changed):
            predict(network, x, time, LayeredText(keys, keys))
        first = [not torch.equal(*outs) for outs in seen.values()].index(True)
        assert first == moved


MODES = {  # by what learns
    "object_only": {"objects"},
    "single_scene": {"objects", "view"},
    "frozen_views": {"objects"},
}


@pytest.mark.parametrize("mode", MODES)
def test_only_the_mappers_of_a_mode_learn(make, mode, monkeypatch):
    prompts = ["a photo of a {object}"] if mode == "object_only" else ["{view} a {object}"]
    if mode == "frozen_views":
        found = SimpleNamespace(path="elsewhere")
        monkeypatch.setattr("models.viewneti.model.read_view_mapper", lambda path: found)
        monkeypatch.setattr("models.viewneti.model.load_view_mapper", lambda *_: None)
    more = {"view_mapper": "elsewhere"} if mode == "frozen_views" else {}
    model = make(mode=mode, prompts=prompts, **more)
    sum(model.loss(scene_batch([[True]], num_target=2), progress=0.0).values()).backward()
    learned = {
        name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert learned == MODES[mode]
    if mode == "frozen_views":
        assert all(parameter.grad is None for parameter in model.view.parameters())
    for module in model.reference_modules().values():
        assert all(p.grad is None and not p.requires_grad for p in module.parameters())
    assert len(model.reference_modules()) == 3


def test_of_several_scenes_only_those_of_the_batch_learn(make):
    model = make(mode="multi_scene", scenes=["scene0", "other", "scene1"])
    assert not torch.equal(model.objects[0].net[0].weight, model.objects[1].net[0].weight)
    sum(model.loss(scene_batch([[True], [True]]), progress=0.0).values()).backward()
    learned = [any(bool(p.grad.any()) for p in mapper.parameters()) for mapper in model.objects]
    assert learned == [True, False, True]


def test_each_scene_speaks_with_its_own_mapper(make):
    model = make(mode="multi_scene", scenes=["scene1", "scene0"])
    batch = scene_batch([[True], [True]])
    together = model.loss(batch, progress=0.0)["diffusion"]
    for parameter in model.objects[0].parameters():  # that of scene1
        parameter.data.zero_()
    assert float(model.loss(batch, progress=0.0)["diffusion"]) != pytest.approx(float(together), abs=1e-7)
    first = replace(batch.apply(lambda tensor: tensor[:1]), scene_ids=("scene0",), seeds=batch.seeds[:1])
    alone = model.loss(first, progress=0.0)["diffusion"]
    model.objects[0].load_state_dict(model.objects[1].state_dict())
    torch.testing.assert_close(model.loss(first, progress=0.0)["diffusion"], alone)


def test_checkpointing_gives_the_same_gradients(make):
    grads = []
    for checkpoint in (False, True):
        model = make(checkpoint=checkpoint)
        sum(model.loss(scene_batch([[True]], num_target=2), progress=0.0).values()).backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_mappers_leave_the_global_generator_alone_but_for_their_weights():
    torch.manual_seed(7)
    first = Mapper(SIGMAS, hidden=16, width=WIDTH, norm=None)
    second = Mapper(SIGMAS, hidden=16, width=WIDTH, norm=None)
    assert torch.equal(first.frequencies, second.frequencies)
    assert not torch.equal(first.net[0].weight, second.net[0].weight)


def test_numbers_of_cameras_are_scaled_to_their_range():
    code = CameraCode().fit([cameras(7, seed=1), cameras(4, seed=2)])
    both = torch.cat([code(cameras(7, seed=1)), code(cameras(4, seed=2))])
    varies = both.abs().amax(dim=0) > 0
    torch.testing.assert_close(both.amin(0)[varies], -torch.ones(int(varies.sum())))
    torch.testing.assert_close(both.amax(0)[varies], torch.ones(int(varies.sum())))
    assert bool(both.isfinite().all())
    constant = scale_numbers(torch.full((3, 1), 5.0), torch.tensor([5.0]), torch.tensor([5.0]))
    assert constant.tolist() == [[0.0]] * 3


def test_a_camera_matrix_projects_like_the_camera():
    seen = cameras(5, seed=3)
    matrix = camera_numbers(seen, "matrix_12").unflatten(-1, (3, 4))
    point = torch.tensor([0.1, -0.2, 0.05, 1.0])
    image = torch.einsum("vij,j->vi", matrix, point)
    local = torch.einsum("vij,j->vi", torch.linalg.inv(seen.cam_to_world), point)[:, :3]
    torch.testing.assert_close(
        image, torch.einsum("vij,vj->vi", seen.intrinsics, local), atol=1e-5, rtol=1e-4
    )


def test_spherical_cameras_are_angles_in_degrees():
    seen = cameras(5, seed=3)
    theta, phi = torch.deg2rad(camera_numbers(seen, "spherical")).unbind(-1)
    radius = seen.positions.norm(dim=-1)
    back = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], -1) * radius[:, None]
    torch.testing.assert_close(back, seen.positions, atol=1e-5, rtol=1e-4)


def test_an_angle_that_never_changes_is_not_seen():
    ring = cameras_from_poses(
        orbit(torch.tensor([0.1, 0.9, 2.0]), torch.full((3,), 0.4), 1.3), torch.eye(3).expand(3, 3, 3)
    )
    code = CameraCode(representation="spherical")
    theta = camera_numbers(ring, "spherical")[:, 0]
    torch.testing.assert_close(theta, theta[:1].expand(3), atol=1e-4, rtol=0)
    ranges = {"smallest": (float(theta[0]), 0.0), "largest": (float(theta[0]), 180.0)}
    still = code.model_copy(update=ranges)
    assert still.size == 1
    assert still(ring).shape == (3, 1)
    assert code.model_copy(update={"smallest": (0, 0), "largest": (1, 1)})(ring).shape == (3, 2)


# Of Stable Diffusion 1.4 and 2.1, and of tiny-sd.
FULL = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
LAYOUTS = {
    "1.4": (FULL, {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768}, 16),
    "2.1": (FULL, {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 1024}, 16),
    "tiny": (
        (("CrossAttnDownBlock2D",) * 3, ("CrossAttnUpBlock2D",) * 3),
        {
            "block_out_channels": (320, 640, 1280),
            "cross_attention_dim": 768,
            "layers_per_block": 1,
            "mid_block_type": None,
        },
        9,
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layers_of_the_bases_that_are_in_use(name):
    from diffusers import UNet2DConditionModel

    (down, up), more, count = LAYOUTS[name]
    with torch.device("meta"):
        network = UNet2DConditionModel(down_block_types=down, up_block_types=up, **more)
    look_by_layers(network)
    names = text_layers(network)
    assert len(names) == count
    parts = [name.split("_")[0] for name in names]
    middle = ["mid"] if count == 16 else []
    assert parts == ["down"] * (6 if count == 16 else 3) + middle + ["up"] * (9 if count == 16 else 6)
    layers = [network.get_submodule(each).processor.layer for each in names]
    assert layers == list(range(count))


def test_mappers_of_stable_diffusion_2_1_have_the_published_size():
    for sigmas in ((0.03, 2.0), (0.03, 2.0, *[0.5] * 12)):
        found = Mapper(sigmas, hidden=64, width=1024, norm=None)
        assert sum(parameter.numel() for parameter in found.parameters()) == 141_696
    older = Mapper((0.03, 2.0), hidden=128, width=768, norm=None)
    assert sum(parameter.numel() for parameter in older.parameters()) == 223_488


def test_equal_seeds_start_from_equal_noise_whatever_the_view():
    starts = []

    def denoise(noisy, sigma):
        starts.append(noisy.clone())
        return torch.zeros_like(noisy)

    table = load_base_table()
    options = ViewNeTISampleOptions(steps=3)
    draw_latents(denoise, (4, 3, 5), torch.tensor([8, 8, 9]), options, table)
    assert torch.equal(starts[0][0], starts[0][1])
    assert not torch.equal(starts[0][0], starts[0][2])


def load_base_table() -> NoiseTable:
    return NoiseTable(torch.linspace(0.999, 0.005, 1000))


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler", "dpmpp_2m_sde", "dpmpp_sde"])
@pytest.mark.parametrize("levels", ["training", "karras"])
def test_every_sampler_ends_at_the_only_image_there_is(sampler, levels):
    clean = torch.randn(1, 4, 3, 5)
    options = ViewNeTISampleOptions(steps=20, sampler=sampler, levels=levels)
    found = draw_latents(
        lambda noisy, sigma: clean.expand_as(noisy), (4, 3, 5), torch.tensor([3]), options, load_base_table()
    )
    torch.testing.assert_close(found, clean, atol=0.15, rtol=0.05)


def test_guidance_of_one_is_the_prompt_alone(make):
    model = make().eval()
    seeds, source, seen = torch.tensor([[5, 5]]), views(1, 1), cameras(1, 2, seed=4)
    options = ViewNeTISampleOptions(steps=3, guidance=1.0)
    one = model.sample(source, seen, seeds, options).images
    near = model.sample(source, seen, seeds, options.model_copy(update={"guidance": 1.0001})).images
    torch.testing.assert_close(one, near, atol=1e-2, rtol=0)
    assert not torch.equal(one[0, 0], one[0, 1])  # other cameras


def test_the_loss_falls_on_two_fixed_views(make):
    model = make()
    batch = scene_batch([[True]], num_target=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=9e-3)
    seen = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = model.loss(batch, progress=0.0)["diffusion"]
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < seen[0] - 1e-3


def test_nested_dropout_is_for_training_alone(make):
    model = make(dropout=1.0)
    batch = scene_batch([[True]])
    dropped = model.loss(batch, progress=0.0)["diffusion"].item()
    assert dropped == model.loss(batch, progress=0.0)["diffusion"].item()
    whole = model.eval().loss(batch, progress=0.0)["diffusion"].item()
    assert whole == make(dropout=0.0).loss(batch, progress=0.0)["diffusion"].item()
    assert whole != dropped


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config").glob("viewneti_*.json")), ids=lambda path: path.stem
)
def test_configs_are_what_they_say_and_stay_so_when_written(path):
    config = load_config(path)
    assert path.stem == config.name == f"viewneti_{config.model.mode}"
    again = validate_config(json.loads(config.model_dump_json()), "again")
    assert again == config


@pytest.mark.parametrize(("number", "name"), [(0, "object_only"), (2, "single_scene"), ("3", "multi_scene")])
def test_published_numbers_of_modes(number, name):
    assert ViewNeTIConfig.model_validate({"mode": number}).mode == name
