"""Adapt the weights of a related k-diffusion denoiser without changing its function.

`add_condition` adds condition inputs to an unconditional denoiser. The new inputs have zero weights, so the
function is unchanged. They still train: the gradient of a weight is its input times the gradient of its
output, which is not zero (as in Zhang et al. 2023, arXiv:2302.05543).

`add_levels` prepends finer levels, for larger images (in the spirit of Karras et al. 2018, arXiv:1710.10196).
Initially they are identities, for three reasons: - A residual branch whose last convolution is zero is the
identity. So a new encoder level does nothing, and the old levels receive down(proj_in(x)). - A new decoder
level starts with a 1x1 convolution of [from below, skip]. [I, 0] keeps the first and drops the second. -
proj_in and proj_out are 1x1 convolutions, which mix channels within a pixel. Down- and upsampling mix pixels
within a channel, with weights that sum to 1, which preserves a bias. So the two commute:
  down(proj_in(x)) = proj_in(down(x)), and likewise for up and proj_out.
The raw network F then obeys F_grown(x, condition) = up(F(down(x), down(condition))), at the same noise level.
It is an initialisation, not a finished denoiser: averaging reduces the standard deviation of independent
noise to 5/16, so the old levels see cleaner images than their noise level indicates.

Functions take and return state dicts with the names of `EDMDenoiser.state_dict()`; no network is built.
Inputs are not modified, but unchanged tensors are shared. k-diffusion counts `d_blocks` from fine to coarse
and `u_blocks` from coarse to fine.
"""

import re

import torch
from torch import Tensor

State = dict[str, Tensor]

PREFIX = "inner_model."
PROJ_IN, MAPPING = f"{PREFIX}proj_in.weight", f"{PREFIX}mapping_cond.weight"
PROJ_OUT, PROJ_OUT_BIAS = f"{PREFIX}proj_out.weight", f"{PREFIX}proj_out.bias"
FIRST_CONVOLUTION = PREFIX + "u_net.d_blocks.{}.1.main.2.weight"  # of an encoder level
BLOCK = re.compile(rf"{re.escape(PREFIX)}u_net\.([du])_blocks\.(\d+)\.(.+)")
# The last layer of a residual branch, convolutional or attention.
BRANCH_END = re.compile(r"\d+\.(main\.6|out_proj)\.(weight|bias)")

IMAGE_CHANNELS = 3  # further inputs (the condition) or outputs (log variance) follow
IMAGE_AXES = {PROJ_IN: 1, PROJ_OUT: 0, PROJ_OUT_BIAS: 0}
NOTES = {
    PROJ_IN: "{} condition channels added with zero weights",
    PROJ_OUT: "variance row added with zero weights: log variance 0 until it is trained",
    MAPPING: "augmentation input ({} numbers) added with zero weights",
}
# Config keys that determine the shapes of a part. The mapping comes first: its width affects all parts.
KEYS = {
    "timestep_embed.": "model.denoiser.mapping_width",
    "mapping.": "model.denoiser.mapping_width",
    "mapping_cond.": "model.denoiser.augment_condition",
    "proj_in.": "model.renderer.latent_channels",
    "proj_out.": "model.denoiser.variance_head",
    "u_net.": "model.denoiser.depths and self_attention, but for the new finest levels,",
}


def adapt(weights: State, own: State) -> tuple[State, list[str]]:
    """Adapt `weights` to `own` with new conditions and levels; also return a message for each change.

    Returns `weights` unchanged, without messages, if nothing is needed or the two are unrelated: if the
    levels of `weights` differ in channels from the coarsest of `own`. Raises ValueError as `add_levels` does.
    """
    num = levels(weights)
    if not num or _channels(own)[-num:] != _channels(weights):
        return weights, []
    lacking = _lacking(weights, own)
    notes = [f"denoiser: {NOTES[name].format(count)}" for name, count in lacking.items() if name in NOTES]
    adapted = add_condition(weights, own) if lacking else weights
    added = levels(own) - num
    if added:
        adapted = add_levels(adapted, own)
        finer, they_pass = ("level", "it passes") if added == 1 else ("levels", "they pass")
        notes.append(
            f"denoiser: {added} finer {finer} in front of {num}, for images of {2**added} times the size; "
            f"{they_pass} everything through until trained"
        )
    return adapted, notes


def levels(state: State) -> int:
    """Return the number of levels of a denoiser; 0 if the names do not match."""
    num = 0
    while FIRST_CONVOLUTION.format(num) in state and state[FIRST_CONVOLUTION.format(num)].ndim == 4:
        num += 1
    return num


def add_condition(weights: State, own: State) -> State:
    """Extend `weights` with zeros for the condition, log variance and augmentation that only `own` has.

    The output images are unchanged for any condition: bit for bit if the convolution sums the image channels
    in the same order, else up to rounding. A log variance of zero makes the loss half the squared error.
    Tensors that differ from those of `own` in any other way are unchanged.
    """
    grafted = dict(weights)
    for name, num in _lacking(weights, own).items():
        axis = IMAGE_AXES.get(name, 1)
        given = weights[name] if name in weights else weights[PROJ_IN].new_empty(len(own[name]), 0)
        shape = list(given.shape)
        shape[axis] = num
        grafted[name] = torch.cat([given, given.new_zeros(shape)], dim=axis)
    return grafted


def add_levels(weights: State, own: State) -> State:
    """Prepend finer levels to a denoiser, up to the number of `own`, initialised as identities.

    The new levels take from `own` all weights without effect yet (all but the ends of branches and the
    decoder's first convolution). Raises ValueError if their channels differ from the finest level of
    `weights`, or if `weights` and `own` differ in anything else.
    """
    _require_finer_levels(weights, own)
    num = levels(weights)
    added = levels(own) - num
    fresh = {
        name: _passing_through(name, value).to(weights[FIRST_CONVOLUTION.format(0)])
        for name, value in own.items()
        if _is_new(name, added, num)
    }
    grown = fresh | {_behind(name, added): value for name, value in weights.items()}
    _require_same_shapes(grown, own)
    return grown


def _channels(state: State) -> list[int]:
    return [len(state[FIRST_CONVOLUTION.format(level)]) for level in range(levels(state))]


def _lacking(weights: State, own: State) -> dict[str, int]:
    """Return the number of missing channels of each tensor that can be extended, by name."""
    lacking = {}
    for name, axis in IMAGE_AXES.items():
        if name in weights and name in own:
            wanted = list(own[name].shape)
            plain = [*wanted[:axis], IMAGE_CHANNELS, *wanted[axis + 1 :]]
            if list(weights[name].shape) == plain != wanted:
                lacking[name] = wanted[axis] - IMAGE_CHANNELS
    if MAPPING in own and MAPPING not in weights and PROJ_IN in weights:
        lacking[MAPPING] = own[MAPPING].shape[1]
    return lacking


def _behind(name: str, added: int) -> str:
    """Return the name of an old tensor after prepending levels."""
    block = BLOCK.fullmatch(name)
    if block is None or block[1] == "u":
        return name
    return f"{PREFIX}u_net.d_blocks.{int(block[2]) + added}.{block[3]}"


def _is_new(name: str, added: int, num: int) -> bool:
    """Whether a tensor belongs to the `added` levels in front of `num`, or is a resampling filter."""
    block = BLOCK.fullmatch(name)
    if block is None:
        return False
    # The previously finest level had no resampling filter.
    return name.endswith(".kernel") or (int(block[2]) < added if block[1] == "d" else int(block[2]) >= num)


def _passing_through(name: str, fresh: Tensor) -> Tensor:
    """Initialise a new level's tensor so that the level is the identity; others are kept."""
    within = BLOCK.fullmatch(name)[3]
    if BRANCH_END.fullmatch(within):
        return torch.zeros_like(fresh)
    if within.endswith(".skip.weight"):
        return torch.eye(*fresh.shape[:2])[..., None, None]  # [I, 0] on [from below, skip]
    return fresh.clone()


def _require_finer_levels(weights: State, own: State) -> None:
    given, wanted = _channels(weights), _channels(own)
    if not 0 < len(given) < len(wanted):
        raise ValueError(
            f"transfer: a denoiser of {len(given)} levels cannot be extended to {len(wanted)}; "
            "put finer levels before those of the file in model.denoiser.channels, depths and self_attention"
        )
    expected = given[:1] * (len(wanted) - len(given)) + given
    if wanted != expected:
        raise ValueError(
            f"transfer: a denoiser of channels {given} cannot be extended to model.denoiser.channels="
            f"{wanted}, as new levels must have the channels of the finest one; "
            f"set model.denoiser.channels={expected}"
        )


def _require_same_shapes(grown: State, own: State) -> None:
    there, here = ({name: list(value.shape) for name, value in state.items()} for state in (grown, own))
    differing = [name for name in sorted(there | here) if there.get(name) != here.get(name)]
    for part, key in KEYS.items():
        for name in differing:
            if name.startswith(PREFIX + part):
                raise ValueError(
                    f"transfer: the denoiser cannot be extended: {name} would be "
                    f"{there.get(name, 'missing')} and must be {here.get(name, 'absent')}; "
                    f"set {key} as the file was trained"
                )
