"""The standard evaluation protocols: input and target views, by name.

Imports nothing slow. Source: pixelNeRF (Yu et al. 2021, arXiv:2012.02190), whose views later papers adopted:
view 64 of the SRN test spiral, or 64 and 104, are the input, and all other views are targets. Those of DTU
are judged by choices of views: regnerf25, the 25 that are in no subset (RegNeRF: Niemeyer et al. 2022,
arXiv:2112.00724); rest, all but the input, as in training-time validation of ViewNeTI (Burgess et al. 2024);
all34, all views, also the input, as in its published table.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from data.formats.dtu.selection import ALL_34, INPUT_ORDER, REGNERF_25, TEST_SCENES

if TYPE_CHECKING:
    from data.scenes.objects import Objects

SRN_VIEWS, SRN_SIZE = 251, 128
NMR_VIEWS, NMR_SIZE = 24, 64
DTU_VIEWS, DTU_SCENES = len(ALL_34), len(TEST_SCENES)
CHOICES = ("regnerf25", "rest", "all34")


@dataclass(frozen=True)
class Protocol:
    """A protocol of the literature. Views are counted from 0."""

    name: str
    input_views: tuple[int, ...]  # all others are targets
    num_views: int  # of an object
    image_size: int | None  # pixels; None: any
    layout: str = "auto"  # data.layout
    objects: str = ""  # the list of objects to evaluate; "" for those of the split's folder
    masked: bool = False  # whether objects have masks, and views are judged by `CHOICES`
    num_random: int = 0  # random input views with one random target; 0 to use `input_views`

    @property
    def shown_inputs(self) -> list[int] | str:
        """The input views as results name them."""
        return f"{self.num_random} at random" if self.num_random else list(self.input_views)


def first_views(num: int) -> tuple[int, ...]:
    """The usual input views of DTU, counted among the 34 in order of their cameras."""
    return tuple(ALL_34.index(camera) for camera in INPUT_ORDER[:num])


def views_of_choice(choice: str, input_views: tuple[int, ...]) -> tuple[int, ...]:
    """The views of a choice, in order."""
    if choice == "regnerf25":
        return tuple(ALL_34.index(camera) for camera in REGNERF_25)
    left_out = input_views if choice == "rest" else ()
    return tuple(view for view in range(DTU_VIEWS) if view not in left_out)


def _srn(name: str, *input_views: int) -> Protocol:
    return Protocol(name, input_views, SRN_VIEWS, SRN_SIZE)


def _dtu(num: int) -> Protocol:
    return Protocol(f"dtu_{num}view", first_views(num), DTU_VIEWS, None, "dtu", masked=True)


def _nmr_random(num: int) -> Protocol:
    """One random target view per object, from `num` random input views (ViewFusion: Spiegl et al. 2024)."""
    name = f"nmr_random_{num}view"
    return Protocol(name, tuple(range(num)), NMR_VIEWS, NMR_SIZE, "nmr", "test.lst", num_random=num)


def _nmr(layout: str) -> Protocol:
    prefix = layout.removeprefix("nmr").strip("_")
    return Protocol(layout, (0,), NMR_VIEWS, NMR_SIZE, layout, f"{prefix}_test.lst" if prefix else "test.lst")


QUICK = "quick"
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        _srn("srn_cars_1view", 64),
        _srn("srn_cars_2view", 64, 104),
        _srn("srn_chairs_1view", 64),
        _srn("srn_chairs_2view", 64, 104),
        _nmr("nmr"),
        _nmr("nmr_softras"),
        _nmr("nmr_gen"),
        *(_nmr_random(num) for num in range(1, 7)),
        *map(_dtu, (1, 3, 6, 9)),
    )
}


@dataclass(frozen=True)
class Task:
    """An object with its input and target views, counted from 0."""

    index: int  # among the objects of the split
    name: str
    category: str  # "" if the set has none
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    choices: dict[str, tuple[int, ...]] = field(default_factory=dict)  # targets by choice of views


def make_task(
    objects: "Objects",
    index: int,
    protocol: Protocol,
    input_views: tuple[int, ...],
    num_targets: int | None,
    view_choices: tuple[str, ...] = (),
) -> Task:
    """The task of an object; its targets are `num_targets` evenly spaced views (default: all but the input).

    With `view_choices`, the targets are spaced among the views of all choices. Raises ValueError if the
    object lacks an input view.
    """
    from data.scenes.views import other_views

    count, name = objects.num_views(index), objects.ids[index]
    if beyond := [view for view in input_views if view >= count]:
        raise ValueError(
            f"{objects.raw.place(index)}: {protocol.name} gives view {beyond[0]}, but there are {count}; "
            f"name another with --input-view, 0 to {count - 1}"
        )
    if view_choices:
        return _masked_task(objects, index, protocol, input_views, num_targets, view_choices)
    if protocol.num_random and input_views == protocol.input_views:
        input_views, targets = _random_views(name, count, protocol)
    else:
        targets = tuple(other_views(objects, index, input_views, num=num_targets))
    category = name.partition("_")[0] if protocol.objects else ""
    return Task(index, name, category, input_views, targets)


def _masked_task(
    objects: "Objects",
    index: int,
    protocol: Protocol,
    input_views: tuple[int, ...],
    num_targets: int | None,
    view_choices: tuple[str, ...],
) -> Task:
    """Raises ValueError if the object has other than the usual views, or fewer than are asked for."""
    from data.scenes.views import evenly_spaced

    if (count := objects.num_views(index)) != protocol.num_views:
        raise ValueError(
            f"{objects.raw.place(index)}: has {count} views, but {protocol.name} chooses among "
            f"{protocol.num_views}; give the data set of DTU"
        )
    found = {choice: views_of_choice(choice, input_views) for choice in view_choices}
    targets = sorted({view for views in found.values() for view in views})
    if num_targets is not None:
        if num_targets > len(targets):
            raise ValueError(f"--views {num_targets}: there are {len(targets)} to choose from; ask for fewer")
        targets = evenly_spaced(targets, num_targets)
        # A choice of which no view is left has no figures.
        found = {choice: tuple(view for view in views if view in targets) for choice, views in found.items()}
        found = {choice: views for choice, views in found.items() if views}
    return Task(index, objects.ids[index], "", input_views, tuple(targets), found)


def _random_views(name: str, count: int, protocol: Protocol) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Random input views and target view of an object, seeded by its name: the same in every evaluation, and
    protocols with more input views include those with fewer.

    Raises ValueError if there are too few views.
    """
    import torch

    from data.seeds import derived_seed

    if count <= protocol.num_random:
        raise ValueError(
            f"{name}: has {count} views, but {protocol.name} needs {protocol.num_random} and one to draw; "
            "choose a protocol of fewer"
        )
    generator = torch.Generator().manual_seed(derived_seed(0, f"views of {name}"))
    order = torch.randperm(count, generator=generator).tolist()
    return tuple(order[1 : 1 + protocol.num_random]), (order[0],)


def read_view_list(path: Path, protocol: Protocol) -> dict[str, tuple[int, ...]]:
    """Read input views by object from lines `OBJECT VIEW ...`, for NMR `CATEGORY OBJECT VIEW ...`.

    This is the format of pixelNeRF's lists, such as src_dvr.txt. Raises ValueError for other lines.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--view-list {path}: cannot be read; give a text file") from error
    form = "CATEGORY OBJECT VIEW ..." if protocol.objects else "OBJECT VIEW ..."
    words_of_name, found = len(form.split()) - 2, {}
    for number, words in enumerate((line.split() for line in lines), start=1):
        name, views = "/".join(words[:words_of_name]), words[words_of_name:]
        if not words:
            continue
        if not views or not all(view.isascii() and view.isdecimal() for view in views):
            raise ValueError(f"--view-list {path}: line {number} is not of the form {form}; correct it")
        found[name] = tuple(map(int, views))
    return found


def listed_views(
    objects: "Objects", index: int, views: dict[str, tuple[int, ...]], path: Path
) -> tuple[int, ...]:
    """The input views of an object in a list. Raises ValueError if it is not in the list."""
    for name in objects.raw.names(index):
        if name in views:
            return views[name]
    raise ValueError(f"--view-list {path}: does not name {objects.raw.names(index)[0]}; add a line for it")
