"""The published weights of ViewFusion: their names, and the config that they fit.

Published files hold the state of the U-Net, bare or under "model", with or without the prefixes "denoise_fn."
and "module.". The convention of angles, which they do not state, is the published one.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

RENAMED = (  # a prefix or part of a published name, and ours
    (r"^noise_level_mlp\.", "embedding."),
    (r"^downs\.", "down."),
    (r"^mid\.", "middle."),
    (r"^ups\.", "up."),
    (r"^final_conv\.block\.0\.", "head.norm."),
    (r"^final_conv\.block\.3\.", "head.conv."),
    (r"\.res_block\.noise_func\.noise_func\.0\.", ".embed."),
    (r"\.res_block\.block([12])\.block\.0\.", r".norm\1."),
    (r"\.res_block\.block([12])\.block\.3\.", r".conv\1."),
    (r"\.res_block\.res_conv\.", ".shortcut."),
    (r"\.attn\.", ".attention."),
)
PREFIXES = ("module.", "denoise_fn.", "model.")
PUBLISHED_GROUPS = 32


def own_name(published: str) -> str:
    """Our name of a published parameter of the U-Net."""
    name = published
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def recognises(names: Iterable[str]) -> bool:
    """Whether names of tensors are those of the published U-Net, whatever their prefixes."""
    bare = {_bare(name) for name in names}
    return {"noise_level_mlp.0.weight", "final_conv.block.3.weight", "downs.0.weight"} <= bare


def load(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The model's section of a config, and its weights by our names, of published weights.

    Tensors outside the U-Net, such as buffers of the schedule, follow from the config and are left out.
    Raises ValueError where they are of no such network.
    """
    bare = {_bare(name): value for name, value in tensors.items()}
    weights = {f"unet.{own_name(name)}": value for name, value in bare.items() if own_name(name) != name}
    return {"family": "viewfusion", **config_of(weights)}, weights


def config_of(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config that shapes of weights by our names tell. Raises ValueError where they fit none."""
    try:
        base = weights["unet.down.0.weight"].shape[0]
        in_channels = weights["unet.down.0.weight"].shape[1]
        out_channels = weights["unet.head.conv.weight"].shape[0]
        condition = weights["unet.embedding.0.weight"].shape[1] - base // 2
    except KeyError as error:
        raise ValueError(
            f"has no {error.args[0]}, so it is no network of ViewFusion; give its U-Net"
        ) from error
    if (in_channels, out_channels, condition) not in [(i, o, base // 2) for i in (6, 9) for o in (3, 6)]:
        raise ValueError(
            f"takes {in_channels} channels and {condition} numbers of an angle, and gives {out_channels} "
            f"channels; ViewFusion takes 6 or 9 and {base // 2}, and gives 3 or 6"
        )
    widths, counts, attention = _levels(weights)
    return {
        "unet": {
            "channels": base,
            "multipliers": [width // base for width in widths],
            "blocks": counts[0],
            "attention": attention,
            "groups": PUBLISHED_GROUPS,
        },
        "weighting": out_channels == 6,
        "angle": {"encoding": "radians", "relative": in_channels == 9, "offset_rad": 0.0, "direction": 1},
        "image_range": "unit",
    }


def _levels(weights: Mapping[str, Tensor]) -> tuple[list[int], list[int], list[bool]]:
    """Channels, number of blocks and attention of each level on the way down."""
    layers = sorted({int(name.split(".")[2]) for name in weights if name.startswith("unet.down.")} - {0})
    widths, counts, attention, fresh = [], [], [], True
    for layer in layers:
        block = weights.get(f"unet.down.{layer}.conv2.weight")
        if block is None:  # the level's end
            fresh = True
            continue
        if fresh:
            widths.append(block.shape[0])
            counts.append(0)
            attention.append(f"unet.down.{layer}.attention.qkv.weight" in weights)
            fresh = False
        counts[-1] += 1
    return widths, counts, attention


def _bare(name: str) -> str:
    """A name without prefixes."""
    while any(name.startswith(prefix) for prefix in PREFIXES):
        name = name.split(".", 1)[1]
    return name
