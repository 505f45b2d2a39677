"""A tiny Stable Diffusion folder with random weights, in the layout that the libraries write."""

import atexit
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.scenes import TINY_BASE

ENDS, LENGTH = ("<|startoftext|>", "<|endoftext|>"), 12
WORDS = ("a", "car", "red", "view", "object", "photo", "of", ".")


def write_base(folder: Path, *, mid_block: bool = False, text_width: int = 24, safe: bool = True) -> Path:
    """A base of a U-Net that looks at text of width 24, with a text encoder of width `text_width`."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(5)
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        mid_block_type="UNetMidBlock2DCrossAttn" if mid_block else None,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 8, 8),
        latent_channels=4,
        norm_num_groups=4,
    )
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vocab, merges = byte_pairs()
    text = CLIPTextConfig(
        vocab_size=len(vocab), hidden_size=text_width, max_position_embeddings=LENGTH, **sizes, **ends
    )
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    unet.save_pretrained(folder / "unet", safe_serialization=safe)
    vae.save_pretrained(folder / "vae", safe_serialization=safe)
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler.save_pretrained(folder / "scheduler")
    return folder


def byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary in which each of WORDS is whole, built up from its letters from the left."""
    parts, merges = list(ENDS), []
    for word in WORDS:
        letters = [*word[:-1], f"{word[-1]}</w>"]
        begun = letters[0]
        parts += letters
        for letter in letters[1:]:
            merges.append((begun, letter))
            begun += letter
            parts.append(begun)
    return {part: number for number, part in enumerate(dict.fromkeys(parts))}, merges


def require_base(document: dict[str, Any]) -> dict[str, Any]:
    """The config of a model, once its base is there. Skips the test where the libraries are missing."""
    if document.get("base", {}).get("path") == str(TINY_BASE):
        pytest.importorskip("diffusers")
        if not TINY_BASE.exists():
            write_base(TINY_BASE, mid_block=True)
            atexit.register(shutil.rmtree, TINY_BASE, ignore_errors=True)
    return document
