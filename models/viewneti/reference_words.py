"""Prompts of a model in terms of its base: reference words, their lengths, and the empty text."""

import torch

from models.stable_diffusion.base import Base
from models.stable_diffusion.layered_text import LayeredText, same_for_all
from models.viewneti.config import ViewNeTIConfig
from models.viewneti.contexts import encode_by_layers
from models.viewneti.prompts import Prompt, read_prompt, reference_id


def prompt_of(base: Base, config: ViewNeTIConfig, text: str) -> Prompt:
    """The prompt, with the reference words in its slots. Raises ValueError where it is too long."""
    length = base.text_encoder.config.max_position_embeddings
    ids = {f"{name}_id": _reference(base, config, name) for name in ("object", "view")}
    return read_prompt(base.tokenizer, text, length, **ids)


def reference_lengths(base: Base, config: ViewNeTIConfig) -> dict[str, float]:
    """Lengths of the embeddings of the reference words of objects and views.

    Raises ValueError where the base does not have one of these as a single word, or a prompt of the training
    is too long.
    """
    for text in config.texts:
        prompt_of(base, config, text)
    table = base.text_encoder.get_input_embeddings().weight
    return {name: float(table[_reference(base, config, name)].norm()) for name in ("object", "view")}


def empty_text(base: Base, config: ViewNeTIConfig, num: int) -> LayeredText:
    """The empty prompt in all layers, for that many views."""
    ids = torch.tensor([prompt_of(base, config, "").ids], device=base.text_encoder.device)
    plain = encode_by_layers(base.text_encoder, ids, [], num_layers=1).keys[0]
    return same_for_all(plain.expand(num, -1, -1), config.base.layers)


def _reference(base: Base, config: ViewNeTIConfig, name: str) -> int:
    """The number of the reference word of objects or views; without views, that of objects."""
    name = name if config.has_views else "object"
    return reference_id(base.tokenizer, getattr(config, name).word, f"model.{name}.word")
