"""A tiny Stable Diffusion folder with random weights, in the layout that the libraries write."""

from pathlib import Path

import torch

WORDS = ("<|startoftext|>", "<|endoftext|>", "a</w>", "car</w>", "red</w>", "view</w>")


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
    text = CLIPTextConfig(
        vocab_size=len(WORDS), hidden_size=text_width, max_position_embeddings=7, **sizes, **ends
    )
    tokenizer = CLIPTokenizer(
        vocab={word: number for number, word in enumerate(WORDS)}, merges=[], model_max_length=7
    )
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    unet.save_pretrained(folder / "unet", safe_serialization=safe)
    vae.save_pretrained(folder / "vae", safe_serialization=safe)
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler.save_pretrained(folder / "scheduler")
    return folder
