"""Train the U-Net of a base together with its text encoder, on latents and captions."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from scripts.make_base.networks import MAX_TOKENS, make_scheduler, make_text_encoder, make_unet
from scripts.make_base.options import BaseOptions
from scripts.make_base.training import Stop, train

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

EMPTY_PROB = 0.1  # of captions, for guidance
LEARNING_RATE = 1e-3


class TextUNet(nn.Module):
    """A U-Net and the text encoder that learns with it."""

    def __init__(self, unet: "UNet2DConditionModel", text_encoder: "CLIPTextModel"):
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(
        self, noisy: Float[Tensor, "b 4 h w"], time: Int[Tensor, "b"], tokens: Int[Tensor, "b l"]
    ) -> Float[Tensor, "b 4 h w"]:
        """The velocity that the U-Net predicts."""
        return self.unet(noisy, time, self.text_encoder(tokens).last_hidden_state).sample


def tokenize(tokenizer: "CLIPTokenizer", captions: list[str]) -> Int[Tensor, "n l"]:
    """Tokens of captions, padded to the length of the text encoder."""
    padded = tokenizer(
        captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    return padded.input_ids


def drop_captions(
    tokens: Int[Tensor, "b l"], empty: Int[Tensor, "1 l"], generator: torch.Generator
) -> Int[Tensor, "b l"]:
    """Replace captions by the empty one, each with the probability EMPTY_PROB."""
    dropped = torch.rand(len(tokens), generator=generator) < EMPTY_PROB
    return torch.where(dropped[:, None], empty, tokens)


def train_unet(
    latents: Float[Tensor, "n 4 h w"],
    captions: list[str],
    tokenizer: "CLIPTokenizer",
    path: Path,
    options: BaseOptions,
    stop: Stop,
) -> tuple[TextUNet, float]:
    """The trained networks for scaled latents, and the CPU seconds they took; `path` holds the state.

    Raises StoppedError at a stop, and OSError if the state cannot be saved.
    """
    network = TextUNet(make_unet(options), make_text_encoder(options))
    scheduler = make_scheduler()
    tokens, empty = tokenize(tokenizer, captions), tokenize(tokenizer, [""])

    def loss(_: int, generator: torch.Generator) -> Tensor:
        # Mean squared error of the velocity at times that are uniformly distributed.
        chosen = torch.randint(len(latents), (options.unet_batch,), generator=generator)
        time = torch.randint(scheduler.config.num_train_timesteps, chosen.shape, generator=generator)
        clean = latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        text = drop_captions(tokens[chosen], empty, generator)
        predicted = network(scheduler.add_noise(clean, noise, time), time, text)
        return F.mse_loss(predicted.float(), scheduler.get_velocity(clean, noise, time))

    settings = {"steps": options.unet_steps, "lr": LEARNING_RATE, "seed": options.seed + 1, "ema": 0.995}
    spent_s = train(network, loss, path, name="U-Net", stop=stop, **settings)
    network.eval().requires_grad_(False)
    return network, spent_s
