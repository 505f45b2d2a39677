"""Sampling options on the command line that only some families have. Imports nothing slow."""

import argparse
from typing import Any

from scripts.common.command_line import number_between

# Choices of the families' own options, which are slow to import.
LEVELS = ("karras", "training", "linear_t")
GUIDANCE_MODES = ("none", "drop_control", "text_only", "class_null", "three_way")
PLANS = ("all", "chunked", "autoregressive", "groups")
CHUNK_CONTEXTS = ("input+previous", "previous", "input")
SAMPLING_OPTIONS = (
    *("sampler", "steps", "guidance", "levels"),
    *("churn", "guidance_mode", "plan", "chunk", "chunk_context"),
    *("prompt", "scene"),
)

# Sampling options by name: what the published read-me says, and what its code did (`--stochastic`: gamma of
# 40/250 and of 40/256, in units of the latter).
PRESETS: dict[str, dict[str, Any]] = {
    "readme": {"sampler": "euler", "steps": 100, "levels": "karras", "guidance": 2.0},
    "branch": {"sampler": "euler", "steps": 50, "levels": "linear_t", "guidance": 2.0},
}
PRESET_CHURN = {"readme": 256 / 250, "branch": 1.0}


def add_latent_options(parser: argparse.ArgumentParser) -> None:
    """Add sampling options that only models on a frozen base have."""
    add = parser.add_argument_group("sampling by Stable Diffusion").add_argument
    help = (
        "settings of the published read-me (100 steps, karras) or code (50, linear_t), both with guidance 2; "
    )
    help += "other flags take precedence"
    add("--preset", choices=tuple(PRESETS), help=help)
    help = "strength of the noise added before each step; 1: the published 40/256"
    add("--churn", type=number_between(float, 0, 100), metavar="X", help=help)
    help = "what --guidance leads away from"
    add("--guidance-mode", choices=GUIDANCE_MODES, help=help)
    help = "which views are drawn together, by models whose views see each other"
    add("--plan", choices=PLANS, help=help)
    help = "views of a chunk or group (default: 8; unconditional: 2)"
    add("--chunk", type=number_between(int, 1, 100_000), metavar="N", help=help)
    help = "finished views that a chunk sees (default: input+previous)"
    add("--chunk-context", choices=CHUNK_CONTEXTS, help=help)


def preset_options(name: str | None, *, stochastic: bool) -> dict[str, Any]:
    """The sampling options of a preset, with its own strength of churn if `stochastic`."""
    if name is None:
        return {}
    return PRESETS[name] | ({"churn": PRESET_CHURN[name]} if stochastic else {})
