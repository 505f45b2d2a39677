"""A text of its own for every layer of a U-Net, with keys and values from different states of it.

Processors know their layer and keep no state, so that gradient checkpointing may run them again. Axes: k
layers, n samples, l tokens, w width of the text encoder.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

ORDER = ("down_blocks", "mid_block", "up_blocks")  # in which the parts of a U-Net run


@dataclass(frozen=True)
class LayeredText:
    """What each layer's attention to the text looks at."""

    keys: Float[Tensor, "k n l w"]
    values: Float[Tensor, "k n l w"]


def text_layers(unet: nn.Module) -> list[str]:
    """Names of the layers with attention to the text, in the order in which they run.

    (`unet.attn_processors` names those of the mid block last.)
    """
    names = [name for name, _ in unet.named_modules() if name.endswith(".attn2")]
    return sorted(names, key=lambda name: ORDER.index(name.split(".")[0]))  # stable within each part


class LayeredAttention:
    """A diffusers attention processor: of layer `layer` to the text, or to itself where that is None."""

    def __init__(self, layer: int | None):
        self.layer = layer

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        keys: Tensor | None = None,
        values: Tensor | None = None,
    ) -> Tensor:
        """Attend: [n, l, c], to texts [k, n, l, w] or else to `encoder_hidden_states`."""
        if self.layer is None or keys is None:
            seen = known = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        else:
            seen, known = keys[self.layer], (keys if values is None else values)[self.layer]
        query, key, value = (
            tensor.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for tensor in (attn.to_q(hidden_states), attn.to_k(seen), attn.to_v(known))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=attn.scale)
        mixed = mixed.transpose(1, 2).flatten(2).to(query.dtype)
        return attn.to_out[1](attn.to_out[0](mixed))


def look_by_layers(unet: nn.Module) -> None:
    """Let the attention layers of a U-Net take `keys` and `values` (see `predict`)."""
    places = {name: layer for layer, name in enumerate(text_layers(unet))}
    processors = {
        name: LayeredAttention(places.get(name.removesuffix(".processor"))) for name in unet.attn_processors
    }
    unet.set_attn_processor(processors)


def predict(
    unet: nn.Module, noisy: Float[Tensor, "n c h w2"], time: Tensor, text: LayeredText
) -> Float[Tensor, "n c h w2"]:
    """What a U-Net predicts, noise or velocity, of noisy latents at times [n], with a text for each layer."""
    ways = {"keys": text.keys, "values": text.values}
    return unet(noisy, time, text.keys[0], cross_attention_kwargs=ways).sample


def same_for_all(text: Float[Tensor, "n l w"], num_layers: int) -> LayeredText:
    """One text for all layers."""
    every = text.expand(num_layers, *text.shape)
    return LayeredText(every, every)


def join(*texts: LayeredText) -> LayeredText:
    """The samples of all texts, in one batch."""
    return LayeredText(*(torch.cat([getattr(t, n) for t in texts], dim=1) for n in ("keys", "values")))
