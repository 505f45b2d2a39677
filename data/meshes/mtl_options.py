"""The options before a texture's name in an MTL file, such as `map_Kd -clamp on -s 2 2 1 wood.png`."""

import re
from dataclasses import dataclass

from data.meshes.textures import REPEATED, Wraps

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$")
PLACES = {
    "-s": 1.0,
    "-o": 0.0,
    "-t": 0.0,
}  # up to three numbers; defaults for missing ones
MOST_NUMBERS = {**dict.fromkeys(PLACES, 3), "-mm": 2}


@dataclass(frozen=True)
class MapOptions:
    """A texture mapping: (u, v) of the file times `scale` plus `offset`, with `wraps` outside [0, 1]."""

    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    wraps: Wraps = REPEATED


def read_options(reference: str) -> MapOptions:
    """Return the options of a texture reference that affect its mapping."""
    words, found = reference.split(), {}
    while len(words) > 1 and re.fullmatch(r"-[A-Za-z]+", words[0]):
        option, words = words[0].lower(), words[1:]
        if option in MOST_NUMBERS:
            values = []
            while words and len(values) < MOST_NUMBERS[option] and NUMBER.match(words[0]):
                values.append(float(words.pop(0)))
            found[option] = values
        else:
            found[option] = words.pop(0)
    pairs = {}
    for option, default in PLACES.items():
        values = [*found.get(option, []), default, default]
        pairs[option] = (values[0], values[1])
    clamped = str(found.get("-clamp", "")).lower() == "on"
    return MapOptions(pairs["-s"], pairs["-o"], ("clamp", "clamp") if clamped else REPEATED)
