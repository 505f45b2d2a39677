"""Sampling options on the command line that only some families have. Imports nothing slow."""

import argparse

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


def add_latent_options(parser: argparse.ArgumentParser) -> None:
    """Add sampling options that only models on a frozen base have."""
    add = parser.add_argument_group("sampling by Stable Diffusion").add_argument
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
