"""Random numbers that depend only on seeds, identical on any device."""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

WORD = (1 << 64) - 1  # splitmix64 works modulo 2^64


def normal(seeds: Int[Tensor, "n"], shape: Sequence[int], *, stream: int | str) -> Float[Tensor, "n ..."]:
    """Draw standard normal numbers, `shape` of them for each seed, as float32 on the device of `seeds`.

    The result for a seed depends only on the seed, the stream and the shape: not on the other seeds of the
    batch, the device, or previous draws. Streams make different uses of one seed independent. (torch's CPU
    generator uses 32 bits of the derived seed, so among some 100,000 draws a few pairs will be equal.)
    """
    return _draw(torch.randn, seeds, shape, stream)


def uniform(seeds: Int[Tensor, "n"], shape: Sequence[int], *, stream: int | str) -> Float[Tensor, "n ..."]:
    """Draw numbers uniform on [0, 1), otherwise like `normal`."""
    return _draw(torch.rand, seeds, shape, stream)


def derived_seed(seed: int, stream: int | str) -> int:
    """Derive a seed in 0 .. 2^63 - 1 for one use of `seed`: splitmix64(seed + splitmix64(stream)).

    A stream's name is hashed to the first 8 bytes of its SHA-256. splitmix64 (Steele, Lea and Flood 2014)
    decorrelates neighbouring numbers, as seeds and streams usually are.
    """
    if isinstance(stream, str):
        stream = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")
    return _splitmix64(seed + _splitmix64(stream)) >> 1


def hashed_seed(*key: int | str) -> int:
    """Derive a seed in 0 .. 2^63 - 1 from words and numbers: the first 8 bytes of their SHA-256."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, key)).encode()).digest()[:8], "big") >> 1


def _draw(function, seeds: Tensor, shape: Sequence[int], stream: int | str) -> Tensor:
    # Always on the CPU: generators of other devices give other numbers for the same seed.
    generators = [torch.Generator().manual_seed(derived_seed(seed, stream)) for seed in seeds.tolist()]
    drawn = [function(tuple(shape), generator=generator) for generator in generators]
    return torch.stack(drawn).to(seeds.device) if drawn else torch.empty(0, *shape, device=seeds.device)


def _splitmix64(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31)


def view_seeds(seeds: Int[Tensor, "b"], num: int) -> Int[Tensor, "bt"]:
    """Derive a seed for each of `num` views of every scene."""
    return torch.tensor([derived_seed(seed, view) for seed in seeds.tolist() for view in range(num)])
