"""Our modules of ViewNeTI reproduce the figures of the published code, on tiny networks."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("diffusers")

from data.cameras.pinhole import cameras_from_poses
from data.formats.dtu.calibration import decompose, normalised_intrinsics
from models.stable_diffusion.layered_text import (
    LayeredText,
    look_by_layers,
    predict,
    same_for_all,
    text_layers,
)
from models.viewneti.cameras import CameraCode, rounded, scale_numbers
from models.viewneti.contexts import bypassed, encode_by_layers, learn_word, raw_states
from models.viewneti.mapper import Mapper, frequencies, mapper_inputs
from models.viewneti.prompts import OBJECT_PROMPTS, check_prompt, read_prompt, reference_id
from tests.reference.rule import randn
from tests.reference.viewneti_networks import (
    ARRAYS,
    LAYERS,
    OBJECT,
    VIEW,
    fill,
    integers,
    mapper,
    published,
    text_encoder,
    unet,
)

CAMERAS = published("A_cal64_scaled")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def near(ours, name, limit):
    theirs = published(name) if isinstance(name, str) else name
    assert ours.shape == theirs.shape
    assert float((ours.detach().double() - theirs.double()).abs().max()) <= limit


def test_calibration_numbers_are_rounded_and_scaled():
    stored = published("A_cal64").flatten(1).float()
    numbers = rounded(stored, 4)
    assert torch.equal(numbers, published("A_cal64_from_token"))
    near(scale_numbers(numbers, stored.amin(0), stored.amax(0)), "A_cal64_scaled", 1e-6)
    five = published("A_five_params").flatten(1)
    assert torch.equal(rounded(five, 4), published("A_five_from_token"))
    ranges = published("A_five_min"), published("A_five_max")
    ours, theirs = scale_numbers(rounded(five, 4), *ranges), published("A_five_scaled")
    near(ours, theirs.nan_to_num(0.0), 1e-6)
    assert torch.equal(ours[:, theirs.isnan().any(0)], torch.zeros_like(ours[:, theirs.isnan().any(0)]))


def test_cameras_of_calibration_files_are_the_published_numbers():
    intrinsics, poses = decompose(published("A_cal64"))
    found = cameras_from_poses(poses.float(), normalised_intrinsics(intrinsics), object_radius=1.0)
    code = CameraCode(rounding=4, pixels=(1600, 1200)).fit([found])
    near(code(found), "A_cal64_scaled", 5e-4)


@pytest.mark.parametrize(("case", "seen"), [("sph2", [0, 1]), ("sph1", [1])])
def test_spherical_cameras(case, seen):
    params = published(f"A_{case}_params")[:, seen]
    camera = scale_numbers(params, params.amin(0), params.amax(0))
    near(camera, published(f"A_{case}_scaled")[:, seen], 1e-6)
    view = fill(Mapper((0.03, 2.0, *[2.0] * len(seen)), hidden=64, width=32, norm=None), "g.view.")
    near(view.frequencies, f"A_{case}_W", 0)
    num = len(params)
    time, layer = integers(f"g.{case}.t", 0, 1000, (num,)).float(), 4 * torch.arange(num)
    inputs = mapper_inputs(time, layer, camera, num_layers=LAYERS)
    near(view.encode(inputs), f"A_{case}_enc", 2e-5)
    word, bypass = view(inputs)
    near(word, f"A_{case}_word", 2e-5)
    near(bypass, f"A_{case}_bypass", 2e-5)


def test_frequencies():
    assert torch.equal(frequencies(OBJECT), published("B_W_object"))
    assert torch.equal(frequencies(VIEW), published("B_W_view"))
    assert torch.equal(frequencies([1.0] * 14), published("B_W_base14"))


def inputs_of(name):
    camera = CAMERAS[published("C_cam")] if name == "view" else None
    return mapper_inputs(published("C_t").float(), published("C_layer"), camera, num_layers=LAYERS)


@pytest.mark.parametrize("name", ["object", "view"])
def test_mappers(name):
    token = "view" if name == "view" else "<object>"
    inputs = inputs_of(name)
    near(mapper(token).encode(inputs), f"B_enc_{name}", 2e-5)
    kept = {
        "main": None,
        "trunc": torch.full((6,), int(ARRAYS["C_truncation_idx"])),
        "drop": published(f"C_drop_idx_{name}"),
    }
    for case, count in kept.items():
        for ours, part in zip(mapper(token)(inputs, count), ("word", "bypass"), strict=True):
            near(ours, f"C_{case}_{name}_{part}", 2e-5)
    for ours, part in zip(mapper(token, norm=False)(inputs), ("word", "bypass"), strict=True):
        near(ours, f"C_nonorm_{name}_{part}", 2e-5)


@pytest.mark.parametrize("name", ["object", "view"])
def test_gradients_of_mappers(name):
    model = mapper("view" if name == "view" else "<object>")
    word, bypass = model(inputs_of(name))
    loss = (word * randn(f"g.C.{name}.gw", (6, 32))).sum() + (bypass * randn(f"g.C.{name}.gb", (6, 32))).sum()
    loss.backward()
    near(loss, f"C_grad_{name}_loss", 2e-5)
    norms = torch.stack([parameter.grad.norm() for parameter in model.parameters()])
    assert torch.allclose(norms.double(), published(f"C_grad_{name}_norms"), atol=2e-4, rtol=1e-5)
    near(model.net[0].weight.grad[::4], f"C_grad_{name}_net0", 2e-5)


def places(ids, slots):
    """Where one of the numbers stands in each text."""
    return torch.isin(ids, slots).long().argmax(1)


def learned_of(ids, time, camera, *, token="<object>", view="view", alphas=(5.0, 5.0), loose=(False, False)):
    known = ids.clamp_max(49407)  # added words have no row
    words = []
    if token is not None:
        slots = published("D_id_object")
        words.append((mapper(token) if isinstance(token, str) else token, slots, None, 0))
    if view is not None:
        words.append((mapper(view) if isinstance(view, str) else view, published("D_id_view"), camera, 1))
    return known, [
        learn_word(
            each,
            places(ids, slots),
            time,
            numbers,
            num_layers=LAYERS,
            alpha=alphas[i],
            unconstrained=loose[i],
        )
        for each, slots, numbers, i in words
    ]


def text_of(case="main", **ways):
    ids = published("D_input_ids" if case == "main" else f"D_{case}_input_ids")
    camera = CAMERAS[published("D_cam")]
    known, learned = learned_of(ids, published("D_t").float(), camera, **ways)
    return encode_by_layers(text_encoder(), known, learned, num_layers=LAYERS)


def test_contexts_of_all_layers():
    text = text_of()
    near(text.keys, "D_main_K", 5e-5)
    near(text.values, "D_main_V", 5e-5)
    known, learned = learned_of(
        published("D_input_ids"), published("D_t").float(), CAMERAS[published("D_cam")]
    )
    before = raw_states(text_encoder(), known.repeat(LAYERS, 1), learned)
    near(before.unflatten(0, (LAYERS, -1))[5], "D_main_layer5_preLN_K", 5e-5)
    near(bypassed(before, learned).unflatten(0, (LAYERS, -1))[5], "D_main_layer5_preLN_V", 5e-5)


@pytest.mark.parametrize(
    ("case", "ids", "ways"),
    [
        ("alphas", "main", {"alphas": (0.7, 2.0)}),
        ("unconstrained_both", "main", {"loose": (True, True)}),
        ("unconstrained_view", "main", {"loose": (False, True)}),
        ("unconstrained_object", "main", {"loose": (True, False)}),
        ("mixed", "mixed", {}),
        ("objonly", "objonly", {"view": None}),
        ("viewonly", "viewonly", {"token": None}),
    ],
)
def test_contexts_of_other_kinds(case, ids, ways):
    text, layers = text_of(ids, **ways), published("D_case_layers")
    near(text.values[layers], f"D_{case}_V", 5e-5)
    if f"D_{case}_K" in ARRAYS:
        near(text.keys[layers], f"D_{case}_K", 5e-5)


def empty_text():
    return encode_by_layers(text_encoder(), published("D_empty_input_ids"), [], num_layers=1).keys[0]


def test_empty_prompt():
    near(empty_text(), "D_empty_context", 5e-5)


@torch.no_grad()
def test_every_layer_of_the_unet_looks_at_its_own_text():
    network = unet()
    look_by_layers(network)
    assert text_layers(network) == ARRAYS["E_order"].tolist()
    text, time = LayeredText(published("D_main_K"), published("D_main_V")), published("E_t")
    x = randn("g.E.x", (3, 4, 8, 16))
    plain = predict(network, x, time, text)
    near(plain, "E_out", 1e-4)
    near(predict(network, x, time, replace(text, values=text.keys)), "E_out_K_only", 1e-4)
    near(predict(network, x, time, same_for_all(text.keys[3], LAYERS)), "E_out_plain_layer3", 1e-4)
    for i in (0, 5, 6, 7, 15):
        for j, part in enumerate(("keys", "values")):
            moved = getattr(text, part).clone()
            moved[i] += 0.5 * randn(f"g.E.d{i}.{j}", (3, 12, 32))
            change = predict(network, x, time, replace(text, **{part: moved})) - plain
            assert float(change.norm()) == pytest.approx(float(ARRAYS["E_sens"][i, j]), rel=1e-3)
    layer = network.get_submodule(text_layers(network)[2])
    out = layer(randn("g.E.h", (3, 10, 32)), text.keys[0], keys=text.keys, values=text.values)
    near(out, "E_attn_out", 1e-4)


def clip_tokenizer():
    from clip.simple_tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    known = SimpleTokenizer()
    merges = list(known.bpe_ranks)
    return CLIPTokenizer(vocab=dict(known.encoder), merges=merges, pad_token="!", model_max_length=77)


def test_prompts_with_slots_are_numbered_as_published():
    pytest.importorskip("clip")
    tokenizer = clip_tokenizer()
    object_id, view_id = (reference_id(tokenizer, word, f"model.{word}.word") for word in ("object", "view"))
    assert [object_id, view_id] == published("C_token_id_object_view").tolist()
    slots = dict(zip(published("D_tok_placeholder_ids").tolist(), ("object", "view"), strict=True))
    for text, ids in zip(ARRAYS["D_tok_texts"].tolist(), published("D_tok_ids").tolist(), strict=True):
        ours = text.replace("<VIEW>", "{view}").replace("<OBJECT>", "{object}")
        found = read_prompt(tokenizer, ours, 12, object_id=object_id, view_id=view_id)
        places = {slots[number]: place for place, number in enumerate(ids) if number in slots}
        assert (found.object_at, found.view_at) == (places.get("object"), places.get("view"))
        words = {"object": object_id, "view": view_id}
        assert list(found.ids) == [words[slots[number]] if number in slots else number for number in ids]
    with pytest.raises(ValueError, match="2 words"):
        reference_id(tokenizer, "red car", "model.object.word")
    for text in OBJECT_PROMPTS:
        check_prompt(text, view=False)
