"""Write a base in the layout of diffusers."""

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from data.files import first_line
from scripts.make_base.networks import make_scheduler
from scripts.make_base.unet import TextUNet

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from transformers import CLIPTokenizer


def write_folder(folder: Path, vae: "AutoencoderKL", network: TextUNet, tokenizer: "CLIPTokenizer") -> None:
    """Write weights as safetensors, with the index by which diffusers' own pipeline opens the folder.

    Raises OSError if a file cannot be written.
    """
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=network.text_encoder,
        tokenizer=tokenizer,
        unet=network.unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    try:
        pipeline.save_pretrained(folder, safe_serialization=True)
    except SafetensorError as error:
        raise OSError(f"{folder}: cannot be written ({first_line(error)}); free some space") from error
