"""A base is trained, resumed, measured and opened by the loader of the families."""

import json
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")
pytest.importorskip("clip")

from models.stable_diffusion.base import encode_text, load_base
from scripts.make_base import base as program
from scripts.make_base.__main__ import main, run
from scripts.make_base.base import make_base, unfinished_folder
from scripts.make_base.cars import held_out_cars, training_cars
from scripts.make_base.figures import words_of
from scripts.make_base.networks import MAX_TOKENS, make_tokenizer
from scripts.make_base.options import BaseOptions
from scripts.make_base.training import StoppedError
from scripts.make_base.unet import drop_captions, tokenize

TINY = BaseOptions(
    cars=3, views=2, held_out=2, size=16, vae_steps=5, unet_steps=4, vae_batch=3, unet_batch=2,
    vae_channels=(8, 8, 16), unet_channels=(8, 16), text_width=8, sample_steps=2,
)  # fmt: skip
GOING = SimpleNamespace(requested=False)


class StopAfter:
    """Asks for a stop when it has been looked at so often."""

    def __init__(self, looks: int):
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("bases") / "cars"
    return out, make_base(out, TINY, GOING, silent)


def test_the_folder_opens_with_the_loader(made):
    out, _ = made
    base = load_base(str(out))
    assert base.prediction == "v_prediction"
    assert encode_text(base, ["an object", ""]).shape == (2, MAX_TOKENS, 8)
    assert list(out.glob("unet/*.safetensors"))
    assert not list(out.rglob("*.bin"))
    assert [path.name for path in out.parent.iterdir()] == ["cars"]
    assert not (out / "training").exists()


def test_the_scaling_factor_is_one_over_the_deviation_of_the_latents(made, tmp_path):
    base = load_base(str(made[0]))
    cars = training_cars(tmp_path, TINY)
    latents = base.vae.encode(cars.images(torch.arange(len(cars)))).latent_dist.mean
    assert base.vae.config.scaling_factor == pytest.approx(1 / float(latents.std()), rel=1e-4)


def test_the_psnr_equals_one_that_is_computed_from_the_folder(made, capsys):
    out, figures = made
    vae = load_base(str(out)).vae
    scores = []
    for pixels in held_out_cars(TINY).pixels.numpy():
        image = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
        decoded = vae.decode(vae.encode(2 * image - 1).latent_dist.mode()).sample
        error = ((decoded.clamp(-1, 1) + 1) / 2 - image).double().square().mean()
        scores.append(-10 * np.log10(float(error)))
    assert run(out, TINY) == 0
    assert f"PSNR {np.mean(scores):.2f} dB" in capsys.readouterr().out
    assert figures["reconstruction_psnr_db"] == pytest.approx(np.mean(scores), abs=1e-3)
    assert json.loads((out / "figures.json").read_text()) == figures


def test_the_contact_sheet_has_a_row_of_eight_for_cars_reconstructions_and_captions(made):
    with Image.open(made[0] / "contact_sheet.png") as sheet:
        assert sheet.size == (110 + 8 * 16, 8 * 16 + 14)


@pytest.mark.parametrize("looks", [1, 5, 10, 14])  # during cars, VAE, U-Net, samples
def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(made, tmp_path, looks):
    out = tmp_path / "cars"
    with pytest.raises(StoppedError):
        make_base(out, TINY, StopAfter(looks), silent)
    assert not out.exists()
    if looks < 12:
        with pytest.raises(ValueError, match="lacks"):
            load_base(str(unfinished_folder(out)))
    make_base(out, TINY, GOING, silent)
    ours, whole = load_base(str(out)), load_base(str(made[0]))
    for part in ("vae", "unet", "text_encoder"):
        expected = getattr(whole, part).state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in getattr(ours, part).state_dict().items())


@pytest.mark.parametrize("looks", [3, 4, 6])  # the first three come with the cars
def test_a_stop_saves_the_step_that_it_ended_with(tmp_path, looks):
    with pytest.raises(StoppedError):
        make_base(tmp_path / "cars", TINY, StopAfter(looks), silent)
    state = torch.load(tmp_path / "cars.unfinished" / "training" / "vae.pt", weights_only=True)
    assert state["step"] == looks - 2


def test_states_are_saved_while_it_trains_so_that_a_kill_loses_little(made, tmp_path, monkeypatch):
    from scripts.make_base import training

    class Killed(BaseException):
        pass

    class Kill:
        looks = 0

        @property
        def requested(self):
            self.looks += 1
            if self.looks == 6:
                raise Killed
            return False

    monkeypatch.setattr(training, "SAVE_EVERY_S", -1.0)
    with pytest.raises(Killed):
        make_base(tmp_path / "cars", TINY, Kill(), silent)
    state = torch.load(tmp_path / "cars.unfinished" / "training" / "vae.pt", weights_only=True)
    assert 0 < state["step"] < TINY.vae_steps


def test_captions_are_dropped_one_in_ten():
    generator = torch.Generator().manual_seed(0)
    dropped = drop_captions(torch.ones(5000, 3, dtype=torch.long), torch.zeros(1, 3).long(), generator)
    assert set(map(tuple, dropped.tolist())) == {(0, 0, 0), (1, 1, 1)}
    assert (dropped[:, 0] == 0).float().mean() == pytest.approx(0.1, abs=0.02)


def test_captions_fit_into_the_text_encoder_and_come_apart_again(tmp_path):
    captions = training_cars(tmp_path, replace(TINY, cars=20, size=8)).captions
    tokens = tokenize(make_tokenizer(), captions)
    assert (tokens == make_tokenizer().eos_token_id).any(1).all()
    for said in captions:
        words = words_of(said)
        assert said == f"an object: a {words['colour']} {words['style']}, {words['azimuth']} view, " + (
            f"{words['elevation']} camera"
        )


def test_the_tokenizer_is_clips():
    from clip.simple_tokenizer import SimpleTokenizer

    ours, clips = make_tokenizer(), SimpleTokenizer()
    assert ours.get_vocab() == clips.encoder
    for text in ("an object: a red sedan, front left view, high camera", "Caf\u00e9 & 12 jeeps", ""):
        assert ours(text).input_ids == [49406, *clips.encode(text), 49407]


def refused(capsys, out, options=TINY) -> str:
    assert run(out, options) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("make_base: ")
    return lines[0]


def test_a_folder_of_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"x")
    assert "was not written by this program" in refused(capsys, tmp_path / "photos")
    (tmp_path / "file").write_bytes(b"x")
    assert "was not written by this program" in refused(capsys, tmp_path / "file")
    (tmp_path / "new.unfinished").mkdir()
    (tmp_path / "new.unfinished" / "notes").write_bytes(b"x")
    assert "new.unfinished" in refused(capsys, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "a.png", "file", "new.unfinished", "notes", "photos",
    ]  # fmt: skip


def test_a_base_of_other_options_is_left_alone(made, capsys):
    assert "unet_steps 4 instead of 5" in refused(capsys, made[0], replace(TINY, unet_steps=5))


def test_a_damaged_record_or_state_is_named(made, tmp_path, capsys):
    copy = shutil.copytree(made[0], tmp_path / "copy")
    (copy / "make_base.json").write_text("{")
    assert "make_base.json is damaged" in refused(capsys, copy)
    (copy / "figures.json").unlink()
    shutil.copy(made[0] / "make_base.json", copy)
    assert "figures.json is missing or damaged" in refused(capsys, copy)
    with pytest.raises(StoppedError):
        make_base(tmp_path / "new", TINY, StopAfter(5), silent)
    state = tmp_path / "new.unfinished" / "training" / "vae.pt"
    state.write_bytes(state.read_bytes()[:99])
    assert run(tmp_path / "new", TINY) == 2
    assert "vae.pt: is damaged" in capsys.readouterr().err
    state.with_name("cars").joinpath("000000.npz").write_bytes(b"PK")
    assert run(tmp_path / "new", TINY) == 2
    assert "000000.npz: is damaged" in capsys.readouterr().err


def test_a_kill_while_it_tidies_up_leaves_a_complete_base(made, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "cars"
    with monkeypatch.context() as patch:
        patch.setattr(program.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            make_base(out, TINY, GOING, silent)
    load_base(str(out))
    assert make_base(out, TINY, GOING, silent)["scaling_factor"] == made[1]["scaling_factor"]
    assert not (out / "training").exists()


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"x")
    assert "cannot write" in refused(capsys, tmp_path / "file" / "base")


def test_a_full_disk(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(program.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    assert "1 MB are left and 500 MB needed" in refused(capsys, tmp_path / "base")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["diffusers", "transformers", "clip"])
def test_a_missing_library_is_named(tmp_path, capsys, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    said = refused(capsys, tmp_path / "base")
    assert name in said
    assert "requirements-stable-diffusion.txt" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flags", [["--cars", "0"], ["--unet-steps", "x"], ["--seed", "-1"]])
def test_flags_out_of_range(flags, capsys):
    with pytest.raises(SystemExit) as left:
        main(flags)
    assert left.value.code == 2
    assert flags[0] in capsys.readouterr().err


def test_the_commands_of_the_page_run(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[3] / "docs" / "stable_base.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [line[:3] for line in lines] == [["python", "-m", "scripts.make_base"]] * 2
    asked = []

    def small(out, options):
        asked.append((out, options))
        return run(tmp_path / out, TINY)

    monkeypatch.setattr("scripts.make_base.__main__.run", small)
    for line in lines:
        assert main(line[3:]) == 0
    draft = replace(BaseOptions(), cars=100, vae_steps=200, unet_steps=200)
    assert asked == [(Path("bases/cars"), BaseOptions()), (Path("bases/draft"), draft)]
    assert "bases/draft: complete" in capsys.readouterr().out
