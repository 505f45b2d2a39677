"""A frozen Stable Diffusion base, from a folder in diffusers' layout or from the Hub's cache."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from models.stable_diffusion.denoiser import PredictionType
from models.stable_diffusion.noise_table import NoiseTable

EXTRA = "requirements-stable-diffusion.txt"
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class Base:
    """What comes from a base; none of its modules learns."""

    unet: nn.Module
    vae: nn.Module
    text_encoder: nn.Module
    tokenizer: object
    table: NoiseTable
    prediction: PredictionType


def load_base(
    path: str, *, revision: str | None = None, dtype: torch.dtype = torch.float32, local_only: bool = True
) -> Base:
    """The base in the folder `path`, or of that name on the Hub (`local_only`: in its cache on this machine).

    Weights are safetensors where there are any, else a `.bin` of tensors alone: nothing is unpickled.
    Raises ValueError, in one line, where the extra is not installed, or parts are missing or do not fit.
    """
    classes = _classes(path)
    if Path(path).exists():
        missing = [part for part in PARTS if not (Path(path) / part).is_dir()]
        if missing:
            raise ValueError(
                f"model.base.path {path}: is no Stable Diffusion folder, it lacks {', '.join(missing)}; "
                "give one in the layout of diffusers"
            )
    ways = {"revision": revision, "local_files_only": local_only}
    loaded = {}
    for part, kind in classes.items():
        dtypes = {"torch_dtype": dtype} if part in ("unet", "vae") else {}
        dtypes |= {"dtype": dtype} if part == "text_encoder" else {}
        try:
            loaded[part] = _read(kind, path, part, ways | dtypes)
        except Exception as error:  # the libraries raise a dozen kinds, for files, keys, shapes and pickles
            raise _unreadable(path, part, error) from error
    return _checked(path, loaded)


def read_networks(path: str, *, revision: str | None = None) -> tuple[nn.Module, nn.Module]:
    """U-Net and VAE of a base without their weights, on the meta device.

    Raises ValueError, in one line, where the extra is not installed or the base is not there.
    """
    classes, found = _classes(path), []
    for part in ("unet", "vae"):
        try:
            config = classes[part].load_config(path, subfolder=part, revision=revision, local_files_only=True)
            with torch.device("meta"):
                found.append(classes[part].from_config(config))
        except Exception as error:  # as in load_base
            raise _unreadable(path, part, error) from error
    return found[0], found[1]


def encode_text(base: Base, prompts: list[str]) -> torch.Tensor:
    """States [n, l, w] of the prompts, padded to the length of the text encoder."""
    tokens = base.tokenizer(
        prompts,
        padding="max_length",
        truncation=True,
        max_length=base.text_encoder.config.max_position_embeddings,
        return_tensors="pt",
    )
    with torch.no_grad():
        return base.text_encoder(tokens.input_ids.to(base.text_encoder.device)).last_hidden_state


def _classes(path: str) -> dict[str, type]:
    try:
        from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise ValueError(
            f"model.base.path {path}: needs diffusers and transformers; pip install -r {EXTRA}"
        ) from error
    kinds = (UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTokenizer, DDPMScheduler)
    return dict(zip(PARTS, kinds, strict=True))


def _unreadable(path: str, part: str, error: Exception) -> ValueError:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ValueError(
        f"model.base.path {path}: {part} cannot be loaded ({first}); put the folders "
        f"{', '.join(PARTS)} of a Stable Diffusion model there, in the layout of diffusers"
    )


def _read(kind: type, path: str, part: str, ways: dict) -> object:
    """One part of the base. The libraries draw missing weights at random, and only warn; here they raise."""
    if part in ("tokenizer", "scheduler"):
        return kind.from_pretrained(path, subfolder=part, **ways)
    module, found = kind.from_pretrained(path, subfolder=part, output_loading_info=True, **ways)
    if found["missing_keys"]:
        raise ValueError(f"weights are missing, such as {min(found['missing_keys'])}")
    return module


def _checked(path: str, loaded: dict) -> Base:
    unet, text_encoder, scheduler = loaded["unet"], loaded["text_encoder"], loaded["scheduler"]
    width, needed = text_encoder.config.hidden_size, unet.config.cross_attention_dim
    if width != needed:
        raise ValueError(
            f"model.base.path {path}: the text encoder has width {width}, the text of the U-Net {needed}; "
            "take both from one model"
        )
    words, known = len(loaded["tokenizer"]), text_encoder.config.vocab_size
    if not known // 2 < words <= known:  # the libraries make an empty tokenizer of an empty folder
        raise ValueError(
            f"model.base.path {path}: the tokenizer has {words} words, the text encoder {known}; "
            "take both from one model"
        )
    prediction = scheduler.config.prediction_type
    if prediction not in PREDICTIONS:
        raise ValueError(
            f"model.base.path {path}: predicts {prediction}, not one of {', '.join(PREDICTIONS)}"
        )
    for part in ("unet", "vae", "text_encoder"):
        loaded[part].eval().requires_grad_(False)
    table = NoiseTable(scheduler.alphas_cumprod)
    return Base(unet, loaded["vae"], text_encoder, loaded["tokenizer"], table, prediction)
