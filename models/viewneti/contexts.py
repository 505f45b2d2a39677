"""Text with learned words, encoded for all layers of a U-Net in one batch.

The key's state is the text encoder's output; the value's is moved by the bypass at the learned words, before
the last normalisation. Axes: n texts (samples times layers), l tokens, w width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.stable_diffusion.layered_text import LayeredText
from models.viewneti.mapper import Mapper, mapper_inputs


@dataclass(frozen=True)
class Learned:
    """A learned word of n texts."""

    at: Int[Tensor, "n"]  # its place among the tokens
    word: Float[Tensor, "n w"]
    bypass: Float[Tensor, "n w"]
    alpha: float  # length of what the bypass adds, as a share of the state's
    unconstrained: bool = False  # the bypass takes the state's place


def learn_word(
    mapper: Mapper,
    at: Int[Tensor, "b"],
    time: Float[Tensor, "b"],
    camera: Float[Tensor, "b c"] | None = None,
    *,
    num_layers: int,
    alpha: float,
    unconstrained: bool = False,
    kept: Int[Tensor, "k b"] | None = None,
) -> Learned:
    """A mapper's word at places `at` of b texts, for every layer: n = k b texts, layer by layer.

    `kept` are the numbers of hidden features that are used.
    """
    layers = torch.arange(num_layers, device=time.device).repeat_interleave(len(time))
    camera = None if camera is None else camera.repeat(num_layers, 1)
    inputs = mapper_inputs(time.repeat(num_layers), layers, camera, num_layers=num_layers)
    word, bypass = mapper(inputs, None if kept is None else kept.flatten())
    return Learned(at.repeat(num_layers), word, bypass, alpha, unconstrained)


def encode_by_layers(
    encoder: nn.Module, ids: Int[Tensor, "b l"], learned: list[Learned], *, num_layers: int
) -> LayeredText:
    """Texts with words of `learn_word`, encoded for all layers at once."""
    states = encode(encoder, ids.repeat(num_layers, 1), learned)
    return LayeredText(*(state.unflatten(0, (num_layers, -1)) for state in states))


def encode(
    encoder: nn.Module, ids: Int[Tensor, "n l"], learned: list[Learned]
) -> tuple[Float[Tensor, "n l w"], Float[Tensor, "n l w"]]:
    """Keys' and values' states of texts whose learned words, in this order, take the place of others."""
    before = raw_states(encoder, ids, learned)
    return encoder.final_layer_norm(before), encoder.final_layer_norm(bypassed(before, learned))


def raw_states(encoder: nn.Module, ids: Int[Tensor, "n l"], learned: list[Learned]) -> Float[Tensor, "n l w"]:
    """States before the last normalisation."""
    from transformers.masking_utils import create_causal_mask

    embedded = encoder.embeddings.token_embedding(ids)
    for each in learned:
        embedded = torch.where(_mask(each, embedded), each.word[:, None].to(embedded), embedded)
    embedded = encoder.embeddings(inputs_embeds=embedded)
    mask = create_causal_mask(encoder.config, embedded, None, None)
    return encoder.encoder(inputs_embeds=embedded, attention_mask=mask, is_causal=True).last_hidden_state


def bypassed(states: Float[Tensor, "n l w"], learned: list[Learned]) -> Float[Tensor, "n l w"]:
    """States moved at the learned words, each by its bypass."""
    for each in learned:
        direction = F.normalize(each.bypass, dim=1)[:, None].to(states)
        lengths = states.norm(dim=2, keepdim=True)
        if each.unconstrained:
            moved = direction * lengths.mean(dim=1, keepdim=True).detach()
        else:
            moved = states + each.alpha * lengths * direction
        states = torch.where(_mask(each, states), moved, states)
    return states


def _mask(learned: Learned, states: Float[Tensor, "n l w"]) -> Tensor:
    places = torch.arange(states.shape[1], device=states.device)
    return (places == learned.at[:, None])[:, :, None]
