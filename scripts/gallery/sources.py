"""The columns of a gallery: runs, sampled in one or several ways, and existing view sequences."""

import argparse
import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.config import DataConfig
from data.formats.registry import at_root, open_split
from data.scenes.objects import Objects
from data.scenes.views import choose_objects, customary_view, other_views
from models.checkpoints.format import find_checkpoint
from models.checkpoints.loading import config_of, open_checkpoint
from scripts.sampling.arguments import make_parser, sample_request
from scripts.sampling.draw import sample_views
from scripts.sampling.reader import ViewSequence, sequences_in
from scripts.sampling.request import OWN_VIEWS, SampleRequest, SubjectRequest

DRAWING = (
    "n",
    "object",
    "views",
    "trajectory",
    "way",
    "films",
)  # options of the gallery that only apply to runs
NUM_OBJECTS, NUM_VIEWS, TRAJECTORY = 4, 20, OWN_VIEWS  # defaults
OWN_FLAGS = {  # flags of sample_views.py that the gallery sets, and its own options for them
    "--transfer": "a SOURCE",
    "--output": "--films",
    "--prefix": "--films",
    "--image": "--object",
} | {flag: flag for flag in ("--data", "--split", "--n", "--object", "--trajectory", "--views")}


@dataclass(frozen=True)
class Source:
    """The source of a column."""

    path: Path
    label: str
    folder: Path  # of the views
    drawing: SampleRequest | None  # what to sample; None for existing views


def read_sources(arguments: argparse.Namespace) -> list[Source]:
    """The columns of the command line. Raises ValueError if the options do not apply to them."""
    drawn = [path for path in arguments.sources if _is_run(path)]
    given = [name for name in DRAWING if getattr(arguments, name) is not None]
    if given and not drawn:
        raise ValueError(f"--{given[0]} is for runs, not for folders of views; leave it out")
    if arguments.n is not None and arguments.object:
        raise ValueError("--n counts objects and --object names them; give only one")
    names = [path.resolve().name for path in arguments.sources]
    if len(set(names)) < len(names):
        names = [str(path) for path in arguments.sources]
    found = []
    for path, name in zip(arguments.sources, names, strict=True):
        if path not in drawn:
            found.append(Source(path, name, path, None))
            continue
        for way in arguments.way or [""]:
            folder = (arguments.films or Path("samples/gallery")) / _slug(name) / _way_slug(way)
            drawing = _drawing(path, way, folder, arguments)
            found.append(Source(path, f"{name} {way}".strip(), folder, drawing))
    return _labelled(found, arguments.labels)


def sequences_of(source: Source) -> list[ViewSequence]:
    """The view sequences of a source, sampled first if it is a run."""
    if source.drawing is None:
        return sequences_in(source.folder)
    written = sample_views(source.drawing)
    # An earlier call may have sampled other objects into the folder.
    return [sequences_in(path.parent)[0] for path in written if path.name.endswith("transforms.json")]


def truth_config(sources: Sequence[Source], root: str | None) -> DataConfig | None:
    """The data config of the truth: that of the first run, with `root` if given; None if unknown."""
    run = next((source.path for source in sources if source.drawing is not None), None)
    if run is not None:
        return _data_of(run, root)
    return DataConfig(root=root) if root else None


def _labelled(sources: list[Source], labels: list[str] | None) -> list[Source]:
    """The sources with the user's labels. Raises ValueError for duplicates, or a wrong number of labels."""
    places = [source.folder.resolve() for source in sources]
    for place, source in zip(places, sources, strict=True):
        if places.count(place) > 1:
            raise ValueError(f"{source.label}: is given twice; give each source and way once")
    if labels is None:
        return sources
    if len(set(labels)) < len(sources) or len(labels) != len(sources):
        raise ValueError(f"--labels: give {len(sources)} different ones, one for each column")
    return [replace(source, label=label) for source, label in zip(sources, labels, strict=True)]


def _drawing(run: Path, way: str, folder: Path, arguments: argparse.Namespace) -> SampleRequest:
    """The request for sampling a run in one way. Raises ValueError for flags that a way may not have."""
    request = sample_request(make_parser().parse_args([*_flags_of(way), "--transfer", str(run)]))
    objects = open_split(_data_of(run, arguments.data), arguments.split)
    names, num = arguments.object, arguments.n or min(NUM_OBJECTS, len(objects))
    if names is None and num == 1:
        names = [objects.ids[0]]
    # With one object, `output` is the folder of the object.
    folder = folder / names[0] if names and len(names) == 1 else folder
    subject = replace(
        request.subject,
        data=arguments.data,
        split=arguments.split,
        num=None if names else num,
        names=tuple(names) if names else None,
    )
    path, num_views = arguments.trajectory or TRAJECTORY, arguments.views or NUM_VIEWS
    if path == OWN_VIEWS:
        num_views = _num_views(objects, subject, arguments.views)
    return replace(request, subject=subject, trajectory=path, num_views=num_views, output=folder)


def _num_views(objects: Objects, subject: SubjectRequest, asked: int | None) -> int:
    """How many of the objects' own views to sample: the number `asked`, or at most as many as all have.

    Raises ValueError if an object has fewer.
    """
    counts = {
        objects.ids[index]: len(
            other_views(objects, index, subject.source_views or [customary_view(objects, index)])
        )
        for index in choose_objects(objects, num=subject.num or 1, names=subject.names)
    }
    name, fewest = min(counts.items(), key=lambda pair: pair[1])
    if asked is not None and asked > fewest:
        raise ValueError(f"--views {asked}: {name} has {fewest} beside the conditioning views; lower it")
    return asked or min(NUM_VIEWS, fewest)


def _flags_of(way: str) -> list[str]:
    """Parse the flags of a way. Raises ValueError for bad quoting, or flags that the gallery sets."""
    try:
        flags = shlex.split(way)
    except ValueError as error:
        raise ValueError(f"--way {way}: is no list of flags ({error}); quote it") from error
    for flag in (word.partition("=")[0] for word in flags):
        if flag in OWN_FLAGS:
            raise ValueError(
                f"--way: {flag} cannot be part of it; give the gallery {OWN_FLAGS[flag]} instead"
            )
    return flags


def _data_of(run: Path, root: str | None) -> DataConfig:
    """The data config of a run, with `root` if given."""
    path = find_checkpoint(run)
    data = config_of(open_checkpoint(path, sections=())).data
    return at_root(data, root) if root else data


def _is_run(path: Path) -> bool:
    """Whether the path is a run rather than a folder of views. Raises ValueError if it is neither."""
    try:
        return bool(find_checkpoint(path))
    except ValueError as error:
        if any(next(path.glob(pattern), None) for pattern in ("*transforms.json", "*/*transforms.json")):
            return False
        if not path.is_dir():
            raise
        raise ValueError(
            f"{path}: has neither views (transforms.json) nor a run (checkpoints/step-*.safetensors); give "
            "a folder that sample_views.py or train.py has written"
        ) from error


def _way_slug(way: str) -> str:
    """A unique folder name for a way; the hash distinguishes 1.5 from -1.5."""
    return f"{_slug(way)}-{hashlib.sha256(way.encode()).hexdigest()[:8]}" if way else "plain"


def _slug(text: str) -> str:
    """A text as part of a folder name."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_.") or "_"
