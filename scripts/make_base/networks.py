"""The networks of a base: the libraries' own classes, small."""

import gzip
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from scripts.make_base.options import BaseOptions

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

EXTRA = "requirements-stable-diffusion.txt"
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"  # in the package clip-anytorch
NUM_MERGES = 49152 - 256 - 2  # CLIP's vocabulary: bytes, bytes at the end of a word, merges, two marks
START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 32  # a caption has about 18
FACTOR = 4  # pixels a latent
LATENT_CHANNELS = 4


def require_libraries() -> None:
    """Raise ValueError, in one line, unless diffusers, transformers and CLIP's vocabulary are installed."""
    missing = [name for name in ("diffusers", "transformers", "clip") if not _installed(name)]
    if missing:
        packages = " and ".join("clip-anytorch" if name == "clip" else name for name in missing)
        raise ValueError(f"needs {packages}; pip install -r {EXTRA}")


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # a module that is set to None
        return False


def make_vae(options: BaseOptions) -> "AutoencoderKL":
    """An untrained VAE of factor 4; its scaling factor is measured after training."""
    from diffusers import AutoencoderKL

    torch.manual_seed(options.seed)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(options.vae_channels),
        up_block_types=("UpDecoderBlock2D",) * len(options.vae_channels),
        block_out_channels=options.vae_channels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=options.size,
        mid_block_add_attention=False,
    )


def make_unet(options: BaseOptions) -> "UNet2DConditionModel":
    """An untrained U-Net without a middle block, as tiny-sd's; it attends to the text at every resolution."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(options.seed + 1)
    return UNet2DConditionModel(
        sample_size=options.size // FACTOR,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * len(options.unet_channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(options.unet_channels),
        mid_block_type=None,
        block_out_channels=options.unet_channels,
        layers_per_block=1,
        cross_attention_dim=options.text_width,
        attention_head_dim=4,  # the number of heads, in spite of its name
        norm_num_groups=8,
    )


def make_text_encoder(options: BaseOptions) -> "CLIPTextModel":
    """An untrained text encoder of two layers for CLIP's vocabulary."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(options.seed + 2)
    words = NUM_MERGES + 2 * 256 + 2
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=options.text_width,
        intermediate_size=2 * options.text_width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    return CLIPTextModel(config)


def make_tokenizer() -> "CLIPTokenizer":
    """CLIP's tokenizer, from the vocabulary in the package clip-anytorch."""
    from transformers import CLIPTokenizer

    folder = Path(find_spec("clip").submodule_search_locations[0])
    with gzip.open(folder / VOCABULARY, "rt", encoding="utf-8") as lines:
        merges = [tuple(line.split()) for line in islice(lines, 1, 1 + NUM_MERGES)]
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def _byte_letters() -> list[str]:
    """A printable letter for every byte: its own where it has one, in the order of CLIP's vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(printable)
    return [chr(code) for code in (*printable, *range(256, 256 + others))]


def make_scheduler() -> "DDPMScheduler":
    """Stable Diffusion's noise levels. Velocity: low frequencies, so colours, are learned in few steps."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )
