"""Prompts with slots for learned words, as the numbers of a tokenizer's words."""

import re
from dataclasses import dataclass

OBJECT, VIEW = "{object}", "{view}"
SCENE_PROMPT = "{view}. A photo of a {object}"
# Of images without a camera; one slot each.
OBJECT_PROMPTS = tuple(
    text.format("{object}")
    for text in (
        "a photo of a {}",
        "a photo of the {}",
        "a picture of a {}",
        "a picture of the {}",
        "an image of a {}",
        "one {} in a photo",
        "a close view of a {}",
        "a detailed photo of the {}",
        "a sharp photo of a {}",
        "a bright photo of the {}",
        "a dark photo of a {}",
        "a simple photo of a {}",
        "a small {}",
        "a large {}",
        "the whole {} in a picture",
        "a clean photo of the {}",
        "a photo of my {}",
        "a photo of one {}",
        "a drawing of a {}",
        "a rendering of the {}",
    )
)


@dataclass(frozen=True)
class Prompt:
    """Words by number, of the tokenizer's full length, and where the learned ones go."""

    ids: tuple[int, ...]
    object_at: int | None
    view_at: int | None


def check_prompt(text: str, *, view: bool, objects: bool = True) -> None:
    """Raise ValueError unless a prompt has the slots of a model with those mappers.

    The object's slot must be there once if `objects`; that of the view may be there once if `view`.
    """
    count = {slot: text.count(slot) for slot in (OBJECT, VIEW)}
    if objects and count[OBJECT] != 1:
        raise ValueError(f"prompt {text!r}: has {count[OBJECT]} slots {OBJECT}; write exactly one")
    if not objects and count[OBJECT] > 1:
        raise ValueError(f"prompt {text!r}: has {count[OBJECT]} slots {OBJECT}; write at most one")
    if count[VIEW] > 1:
        raise ValueError(f"prompt {text!r}: has {count[VIEW]} slots {VIEW}; write at most one")
    if count[VIEW] and not view:
        raise ValueError(f"prompt {text!r}: has the slot {VIEW}, but this mode learns no views; leave it out")
    for name in re.findall(r"{[^{}]*}", text):
        if name not in (OBJECT, VIEW):
            raise ValueError(f"prompt {text!r}: {name} is no slot; use {OBJECT} and {VIEW}")


def reference_id(tokenizer, word: str, key: str) -> int:
    """The number of a word that is a single one to the tokenizer. Raises ValueError if it is not."""
    ids = tokenizer(word, add_special_tokens=False).input_ids
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id != tokenizer.convert_tokens_to_ids(f"{word}</w>"):
        parts = tokenizer.convert_ids_to_tokens(ids)
        raise ValueError(
            f"{key} {word!r}: is {len(ids)} words to the base's tokenizer ({' '.join(map(str, parts))}), or "
            "unknown to it; choose a word that it has whole"
        )
    return ids[0]


def read_prompt(tokenizer, text: str, length: int, *, object_id: int, view_id: int) -> Prompt:
    """A prompt of at most `length` words, both ends counted; slots hold the reference words.

    Raises ValueError where it is longer.
    """
    ids, places = [tokenizer.bos_token_id], {}
    for part in re.split(f"({re.escape(OBJECT)}|{re.escape(VIEW)})", text):
        if part in (OBJECT, VIEW):
            places[part] = len(ids)
            ids.append(object_id if part == OBJECT else view_id)
        elif part.strip():
            ids += tokenizer(part, add_special_tokens=False).input_ids
    ids.append(tokenizer.eos_token_id)
    if len(ids) > length:
        raise ValueError(
            f"prompt {text!r}: has {len(ids)} words with its ends, more than {length}; shorten it"
        )
    padding = tokenizer.pad_token_id
    ids += [tokenizer.eos_token_id if padding is None else padding] * (length - len(ids))
    return Prompt(tuple(ids), places.get(OBJECT), places.get(VIEW))
