"""Weights of a related k-diffusion denoiser, made to fit one of ours without changing what it computes.

`graft` gives an unconditional denoiser a condition: new inputs with zero weights, so that nothing is heard of
them until training moves these weights (as in Zhang et al. 2023, arXiv:2302.05543). `grow` puts a finer level
in front, which passes everything through until it is trained (in the spirit of Karras et al. 2018,
arXiv:1710.10196).

State dicts go in and out, under the names of `EDMDenoiser.state_dict()`; no network is built and nothing
given is changed. k-diffusion counts `d_blocks` from fine to coarse and `u_blocks` from coarse to fine.
"""

import re

import torch
from torch import Tensor

PREFIX = "inner_model."
PROJ_IN, PROJ_OUT = f"{PREFIX}proj_in.weight", f"{PREFIX}proj_out.weight"
MAPPING = f"{PREFIX}mapping_cond.weight"
BLOCK = re.compile(rf"{re.escape(PREFIX)}u_net\.(d_blocks|u_blocks)\.(\d+)\.(.+)")
IMAGE_CHANNELS = 3
# The last layer of each residual branch: zero, and the branch adds nothing.
BRANCH_ENDS = re.compile(r"\d+\.(main\.6|out_proj)\.(weight|bias)")

State = dict[str, Tensor]


def adapt(weights: State, own: State) -> tuple[State, list[str]]:
    """`weights` grown by a level and given a condition where `own` has these, and a line on each.

    Unchanged, without lines, where neither is called for. Raises ValueError as `grow` does.
    """
    notes: list[str] = []
    if 0 < levels(weights) == levels(own) - 1:
        weights = grow(weights, own)
        notes.append(
            f"denoiser: grown from {levels(own) - 1} to {levels(own)} levels; the new, finest one passes "
            "everything through until it is trained"
        )
    if _lacks_condition(weights, own):
        weights, lines = _graft(weights, own)
        notes += lines
    return weights, notes


def levels(state: State) -> int:
    """Number of levels of a denoiser; 0 where the names are not those of one."""
    found = [BLOCK.fullmatch(name) for name in state]
    return 1 + max((int(match[2]) for match in found if match and match[1] == "d_blocks"), default=-1)


def graft(weights: State, own: State) -> State:
    """An unconditional denoiser with the condition's channels of `own`, all of whose weights are zero.

    Where it lacks them, it also gets a log variance (of zero: the loss is then half the squared error) and an
    augmentation vector that it does not heed.
    """
    return _graft(weights, own)[0]


def grow(weights: State, own: State) -> State:
    """A denoiser with one level less than `own`, with a finest level in front.

    As 1x1 convolutions commute with filters that treat all channels alike, the grown network F' is
    F'(image, condition) = up(F(down(image), down(condition))) with the U-Net's own filters.

    Raises ValueError where the new level has other channels than the finest one so far, or the others differ.
    """
    finest = levels(own) - 1  # index of the new level among the u_blocks
    grown = {_one_level_down(name): value for name, value in weights.items()}
    for name, value in own.items():
        if BLOCK.fullmatch(name) and name not in grown and name.endswith(".kernel"):
            grown[name] = value
        elif name.startswith((f"{PREFIX}u_net.d_blocks.0.", f"{PREFIX}u_net.u_blocks.{finest}.")):
            grown[name] = _passing_through(name, value)
    _require_same_blocks(grown, own)
    return grown


def _lacks_condition(weights: State, own: State) -> bool:
    if not all(name in state for name in (PROJ_IN, PROJ_OUT) for state in (weights, own)):
        return False
    return weights[PROJ_IN].shape[1] == IMAGE_CHANNELS < own[PROJ_IN].shape[1]


def _graft(weights: State, own: State) -> tuple[State, list[str]]:
    grafted, added = dict(weights), own[PROJ_IN].shape[1] - IMAGE_CHANNELS
    grafted[PROJ_IN] = _with_zeros(weights[PROJ_IN], added, axis=1)
    notes = [f"denoiser: {added} channels of condition added, with zero weights"]
    if weights[PROJ_OUT].shape[0] == IMAGE_CHANNELS < own[PROJ_OUT].shape[0]:
        bias = PROJ_OUT.replace("weight", "bias")
        grafted[PROJ_OUT] = _with_zeros(weights[PROJ_OUT], 1, axis=0)
        grafted[bias] = _with_zeros(weights[bias], 1, axis=0)
        notes.append("denoiser: log variance added, zero")
    if MAPPING in own and MAPPING not in weights:
        grafted[MAPPING] = torch.zeros_like(own[MAPPING])
        notes.append("denoiser: description of the augmentation added, with zero weights")
    return grafted, notes


def _with_zeros(weight: Tensor, num: int, *, axis: int) -> Tensor:
    shape = list(weight.shape)
    shape[axis] = num
    return torch.cat([weight, weight.new_zeros(shape)], dim=axis)


def _one_level_down(name: str) -> str:
    block = BLOCK.fullmatch(name)
    if block is None or block[1] == "u_blocks":
        return name
    return f"{PREFIX}u_net.d_blocks.{int(block[2]) + 1}.{block[3]}"


def _passing_through(name: str, fresh: Tensor) -> Tensor:
    """A weight of the new level: as initialised, unless something would then come out of a branch."""
    rest = BLOCK.fullmatch(name)[3]
    if BRANCH_ENDS.fullmatch(rest):
        return torch.zeros_like(fresh)
    if rest.endswith("skip.weight"):  # sees [from below, across]: only the first half goes on
        num = fresh.shape[0]
        return torch.cat([torch.eye(num), torch.zeros(num, fresh.shape[1] - num)], 1)[..., None, None].to(
            fresh
        )
    return fresh.clone()


def _require_same_blocks(grown: State, own: State) -> None:
    blocks = [
        {name: value for name, value in state.items() if BLOCK.fullmatch(name)} for state in (grown, own)
    ]
    alike = blocks[0].keys() == blocks[1].keys() and all(
        value.shape == blocks[1][name].shape for name, value in blocks[0].items()
    )
    if not alike or grown[PROJ_IN].shape[0] != own[PROJ_IN].shape[0]:
        raise ValueError(
            "transfer: the denoiser cannot be grown by a level: in model.denoiser, channels, depths and "
            "self_attention after their first entries must be those of the smaller one, mapping_width too, "
            "and the first channels must equal the second"
        )
