"""An open checkpoint file of any kind: names and shapes are available before tensors are read."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.checkpoints.numpy_file import is_archive, read_archive
from models.checkpoints.torch_file import (
    WRAPPERS,
    begins_as_torch_file,
    read_torch_file,
    refusal,
    unreadable,
)


class DamagedCheckpointError(ValueError):
    """A file that is damaged or of another kind."""


class Weights(Mapping[str, Any]):
    """A state dict by names without prefixes of wrappers; values are read on access.

    Values in a file of torch.save may be anything; those in a safetensors file are tensors.
    """

    def __init__(self, source: Mapping[Any, Any], keys: dict[str, Any]):
        self._source, self._keys = source, keys

    def __getitem__(self, name: str) -> Any:
        return self._source[self._keys[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def shape(self, name: str) -> torch.Size | None:
        """The shape of an entry, without reading it; None if it is no tensor."""
        if isinstance(self._source, StoredTensors):
            return self._source.shape(self._keys[name])
        value = self[name]
        return value.shape if isinstance(value, Tensor) else None


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of an open safetensors file, read on access."""

    def __init__(self, file: Any):
        self._file, self._names = file, tuple(file.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def shape(self, name: str) -> torch.Size:
        """The shape of a tensor, without reading it."""
        return torch.Size(self._file.get_slice(name).get_shape())


@dataclass(frozen=True)
class CheckpointFile:
    """An open file. Tensors must be read before it is closed."""

    path: Path
    kind: Literal["safetensors file", "file of torch.save", "file of NumPy arrays"]
    header: Mapping[str, str]  # metadata of a safetensors file
    content: Any  # tensors by name; of a file of torch.save, whatever was saved

    def names(self, *entries: str, wrappers: tuple[str, ...] = WRAPPERS) -> frozenset[str]:
        """Names of the entries of the state dict, as `weights` has them; none if there is no state dict."""
        return frozenset(_bare(key, wrappers) for key in self._state(entries) or ())

    def weights(self, *entries: str, wrappers: tuple[str, ...] = WRAPPERS) -> Weights:
        """The state dict: the first of the named `entries` of the content that is one, else all of it.

        Prefixes of `wrappers` around the model are left out of its names. Raises ValueError if there is no
        state dict, or two entries have one name.
        """
        state = self._state(entries)
        if state is None:
            kind = type(self.content).__name__
            raise ValueError(f"{self.path}: holds {kind} where a state dict should be; save that")
        keys: dict[str, Any] = {}
        for key in state:
            name = _bare(key, wrappers)
            if name in keys:
                problem = "is there twice, with a wrapper's prefix and without"
                raise refusal(self.path, key, problem, "remove one")
            keys[name] = key
        return Weights(state, keys)

    def entry(self, key: str) -> Any:
        """A value saved with the weights, such as a config; None if there is none.

        In a safetensors file it is JSON in the header; raises ValueError if it is not.
        """
        if self.kind != "safetensors file":
            return self.content.get(key) if isinstance(self.content, dict) else None
        try:
            return json.loads(self.header.get(key, "null"))
        except (ValueError, RecursionError) as error:
            raise refusal(self.path, key, "in its header is no JSON", "save it without") from error

    def _state(self, entries: tuple[str, ...]) -> Mapping[Any, Any] | None:
        state = self.content
        if isinstance(state, dict):
            state = next((state[entry] for entry in entries if isinstance(state.get(entry), dict)), state)
        return state if isinstance(state, Mapping) else None


def _bare(key: object, wrappers: tuple[str, ...]) -> str:
    """A name without the prefixes of wrappers."""
    name = str(key)
    while name.startswith(wrappers):
        name = name.split(".", 1)[1]
    return name


@contextmanager
def opened(path: Path) -> Iterator[CheckpointFile]:
    """Open a checkpoint file of any of these kinds; nothing in it is executed.

    Raises DamagedCheckpointError if it is of none, or cut short, and ValueError if it cannot be read
    or holds other than tensors and plain values.
    """
    try:
        stored = safe_open(path, framework="pt")
    except OSError as error:
        raise unreadable(path, error) from error
    except SafetensorError as error:
        if not begins_as_torch_file(path):
            raise DamagedCheckpointError(
                f"{path}: is cut short or no safetensors file ({error}); copy it again"
            ) from error
        stored = None
    if stored is None and is_archive(path):
        yield CheckpointFile(path, "file of NumPy arrays", {}, read_archive(path))
        return
    if stored is None:
        yield CheckpointFile(path, "file of torch.save", {}, read_torch_file(path))
        return
    with stored as file:
        yield CheckpointFile(path, "safetensors file", file.metadata() or {}, StoredTensors(file))
