"""Weights of a related k-diffusion denoiser, made to fit one of ours without changing what it computes.

`add_condition` gives an unconditional denoiser a condition. The new inputs have zero weights, so that they
add nothing to any sum: the function stays what it was. They are not stuck there: the gradient of a weight is
its input times the gradient of its output, which is not zero, so training moves them from the first step (as
in Zhang et al. 2023, arXiv:2302.05543).

`add_levels` puts finer levels in front, for larger images (in the spirit of Karras et al. 2018,
arXiv:1710.10196).
They pass everything through at first, for three reasons:
- A residual branch whose last convolution is zero leaves x + 0. On the way down a new level does nothing, and
  the old levels get down(proj_in(x)).
- On the way up a new level begins by mixing [from below, across], the old levels' result and the level's own
  way-down features, by a 1x1 convolution. [I, 0] keeps the first and drops the second.
- proj_in and proj_out are 1x1 convolutions: they mix channels within a pixel. Down- and upsampling mix pixels
  within a channel, by weights that sum to 1, which leaves a bias as it is. So the two may change places:
  down(proj_in(x)) = proj_in(down(x)), and likewise for up and proj_out.
The raw network F then obeys F_grown(x, condition) = up(F(down(x), down(condition))), at the same noise level.
It is a start for training, no finished denoiser: averaging leaves 5/16 of independent noise's standard
deviation, so the old levels see cleaner images than the noise level tells them.

State dicts go in and out, under the names of `EDMDenoiser.state_dict()`; no network is built, and nothing
given is changed, though what stays the same is shared with it. k-diffusion counts `d_blocks` from fine to
coarse and `u_blocks` from coarse to fine.
"""

import re

import torch
from torch import Tensor

State = dict[str, Tensor]

PREFIX = "inner_model."
PROJ_IN, MAPPING = f"{PREFIX}proj_in.weight", f"{PREFIX}mapping_cond.weight"
PROJ_OUT, PROJ_OUT_BIAS = f"{PREFIX}proj_out.weight", f"{PREFIX}proj_out.bias"
FIRST_CONVOLUTION = PREFIX + "u_net.d_blocks.{}.1.main.2.weight"  # of a level
BLOCK = re.compile(rf"{re.escape(PREFIX)}u_net\.([du])_blocks\.(\d+)\.(.+)")
# The last layer of a residual branch, be it of convolutions or of attention.
BRANCH_END = re.compile(r"\d+\.(main\.6|out_proj)\.(weight|bias)")

IMAGE_CHANNELS = 3  # what else goes in (the condition) or comes out (log variance) comes after them
IMAGE_AXES = {PROJ_IN: 1, PROJ_OUT: 0, PROJ_OUT_BIAS: 0}
NOTES = {
    PROJ_IN: "{} condition channels added with zero weights",
    PROJ_OUT: "variance row added with zero weights: log variance 0 until it is trained",
    MAPPING: "augmentation input ({} numbers) added with zero weights",
}
# What in the config decides the shapes of a part. The mapping comes first: its width is in all parts.
KEYS = {
    "timestep_embed.": "model.denoiser.mapping_width",
    "mapping.": "model.denoiser.mapping_width",
    "mapping_cond.": "model.denoiser.augment_condition",
    "proj_in.": "model.renderer.latent_channels",
    "proj_out.": "model.denoiser.variance_head",
    "u_net.": "model.denoiser.depths and self_attention, but for the new finest levels,",
}


def adapt(weights: State, own: State) -> tuple[State, list[str]]:
    """`weights` grafted and grown as far as `own` calls for it, and a line for the user on each thing done.

    The very `weights` without lines where nothing is called for, or where the two cannot be compared: where
    the levels of `weights` have other channels than the coarsest of `own`. Raises ValueError as `add_levels`
    does.
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
    """Number of levels of a denoiser; 0 where the names are not those of one."""
    num = 0
    while FIRST_CONVOLUTION.format(num) in state and state[FIRST_CONVOLUTION.format(num)].ndim == 4:
        num += 1
    return num


def add_condition(weights: State, own: State) -> State:
    """`weights` with zeros for what they lack of `own`: condition, log variance, description of augmentation.

    The images that come out are as before, whatever the condition: to the last bit where the convolution adds
    up the images' channels in the same order, else to rounding. A log variance of zero makes the loss half
    the squared error. Tensors that differ from those of `own` in any other way stay as they are.
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
    """A denoiser with as many levels as `own`, which has more: finer ones, which pass everything through.

    The new levels take from `own` what cannot be heard yet (all but the ends of branches and the first mixing
    on the way up). Raises ValueError if they have other channels than the finest level of `weights`, or
    where `weights` and `own` differ in anything else.
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
    """How many channels each tensor lacks of those that can be grafted, by its name."""
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
    """The name of an old tensor behind new levels."""
    block = BLOCK.fullmatch(name)
    if block is None or block[1] == "u":
        return name
    return f"{PREFIX}u_net.d_blocks.{int(block[2]) + added}.{block[3]}"


def _is_new(name: str, added: int, num: int) -> bool:
    """Whether a tensor belongs to the `added` levels in front of `num`, or is a filter between two levels."""
    block = BLOCK.fullmatch(name)
    if block is None:
        return False
    # The finest level so far had no filter, as there was nothing beyond it.
    return name.endswith(".kernel") or (int(block[2]) < added if block[1] == "d" else int(block[2]) >= num)


def _passing_through(name: str, fresh: Tensor) -> Tensor:
    """A new level's tensor, set so that the level changes nothing; as it is where that does not matter."""
    within = BLOCK.fullmatch(name)[3]
    if BRANCH_END.fullmatch(within):
        return torch.zeros_like(fresh)
    if within.endswith(".skip.weight"):
        return torch.eye(*fresh.shape[:2])[..., None, None]  # [I, 0] on [from below, across]
    return fresh.clone()


def _require_finer_levels(weights: State, own: State) -> None:
    given, wanted = _channels(weights), _channels(own)
    if not 0 < len(given) < len(wanted):
        raise ValueError(
            f"transfer: a denoiser of {len(given)} levels cannot grow into one of {len(wanted)}; "
            "put finer levels before those of the file in model.denoiser.channels, depths and self_attention"
        )
    expected = given[:1] * (len(wanted) - len(given)) + given
    if wanted != expected:
        raise ValueError(
            f"transfer: a denoiser of channels {given} cannot grow into model.denoiser.channels={wanted}, as "
            f"new levels pass on just what the finest one takes; set model.denoiser.channels={expected}"
        )


def _require_same_shapes(grown: State, own: State) -> None:
    there, here = ({name: list(value.shape) for name, value in state.items()} for state in (grown, own))
    differing = [name for name in sorted(there | here) if there.get(name) != here.get(name)]
    for part, key in KEYS.items():
        for name in differing:
            if name.startswith(PREFIX + part):
                raise ValueError(
                    f"transfer: the denoiser cannot grow: {name} would be {there.get(name, 'missing')} and "
                    f"must be {here.get(name, 'absent')}; set {key} as the file was trained"
                )
