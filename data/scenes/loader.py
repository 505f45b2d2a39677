"""Training scenes: an endless shuffled sequence, distributed over ranks and reproducible.

Scene number g does not depend on the process that loads it: its object, views and seed follow from (seed, g).
Step s of rank r has the numbers s * world * batch + r * batch + (0 .. batch - 1), so two processes with half
the batch see the same scenes as one, and a resumed run continues where it stopped.

With `data.shards` "rank" a rank reads only its own shards: those whose index modulo the number of ranks is
its own. Its scenes still follow from (seed, g) and the number of ranks, but each rank iterates over its own
objects, so epochs depend on its shards, and another number of ranks sees other scenes.

With `data.damaged` "skip" a scene with an unusable file is replaced: each further attempt at scene number g
draws an object and views from its own stream, which follows from (seed, g) and the number of the attempt. So
the sequence is still the same for every process.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from data.cameras.neighbours import with_near_view
from data.config import DataConfig
from data.files import TemporaryError, is_temporary
from data.scenes.batch import SceneBatch, Views, concatenate, valid_indices
from data.scenes.batch_transfer import Parcel, pack, require_shared_memory
from data.scenes.damaged_files import DamagedFileError, first_usable, with_advice
from data.scenes.objects import Objects
from data.scenes.views import customary_view, evenly_spaced
from data.scenes.windows import choose_views
from data.scenes.worker_signals import ignore_signals, shared_ending
from data.seeds import hashed_seed


@dataclass(frozen=True)
class Choice:
    """A scene to be read: its object, views and seed."""

    object_index: int
    source: tuple[int, ...]
    target: tuple[int, ...]
    seed: int


class SceneLoader:
    """Batches of `batch` scenes for one rank of `world`. Step numbers count from 0.

    `total` is the number of batches of the whole run, by which the number of sources may be scheduled; None:
    it stays as it begins. Views hold what `requires` names: with "geometry", their depth and alpha.
    Raises ValueError where an object has fewer views than the fewest sources and the targets need, or where
    ranks are to read their own shards and these are not here, or not as many for every rank.
    """

    def __init__(
        self,
        objects: Objects,
        config: DataConfig,
        *,
        seed: int,
        batch: int,
        rank: int = 0,
        world: int = 1,
        total: int | None = None,
    ):
        assert 0 <= rank < world
        fewest, self._most = config.largest_sources
        for name, count in _counts(objects, config):
            if count < fewest + config.targets:
                raise ValueError(
                    f"{name}: has {count} views, but {fewest} source and "
                    f"{config.targets} target views are needed; lower data.sources or data.targets"
                )
        self.objects, self.config, self.seed = objects, config, seed
        self.batch, self.rank, self.world = batch, rank, world
        self.requires: frozenset[str] = frozenset()
        self._num_scenes = None if total is None else total * world * batch
        self._own = range(len(objects))
        if config.shards == "rank":
            self._own = own_objects(objects, rank=rank, world=world)

    def choose(self, number: int, attempt: int = 0) -> Choice:
        """Choose scene `number` of the sequence; if ranks read their own shards, a number within this rank.

        Attempts from 1 on are the replacements if files of all previous attempts cannot be used.
        """
        config, seed = self.config, scene_seed(self.seed, number)
        turn = number
        if config.shards == "rank":
            turn = number // (self.world * self.batch) * self.batch + number % self.batch
        epoch, place = divmod(turn, len(self._own))
        index = self._own[_permutation(self.seed, epoch, len(self._own))[place]]
        # A separate stream, independent of the noise drawn from the scene's seed.
        generator = _generator("views", seed)
        if attempt:
            generator = _generator("instead", seed, attempt)
            index = self._own[int(torch.randint(len(self._own), (), generator=generator))]
        num_views = self.objects.num_views(index)
        # By the scene's own position in the run, so that scenes do not depend on gradient accumulation.
        progress = min(1.0, number / self._num_scenes) if self._num_scenes else 0.0
        fewest, most = config.sources_at(progress)
        most = min(most, num_views - config.targets)
        num_sources = int(torch.randint(fewest, most + 1, (), generator=generator))
        longest = config.window_at(progress)
        views = choose_views(num_views, num_sources + config.targets, longest, generator)
        source, target = views[:num_sources], views[num_sources:]
        if config.near_source_prob and torch.rand((), generator=generator) < config.near_source_prob:
            source = with_near_view(source, target, self.objects.cameras(index).positions, generator)
        return Choice(index, tuple(source), tuple(target), seed)

    def load(self, step: int) -> SceneBatch:
        """Load the scenes of a step; sources are padded to the run's maximum by repeating the first."""
        first = (step * self.world + self.rank) * self.batch
        return _joined(self.objects, [self._load_scene(first + i) for i in range(self.batch)])

    def _load_scene(self, number: int) -> "_Scene":
        def read(attempt: int) -> _Scene:
            choice = self.choose(number, attempt)
            return _read_scene(self.objects, choice, self._most, geometry="geometry" in self.requires)

        scene, damage = first_usable(read, root=self.config.root, skip=self.config.damaged == "skip")
        return replace(scene, damage=damage)

    def batches(self, start_step: int = 0) -> Iterator[SceneBatch]:
        """Yield the batches of steps `start_step`, `start_step + 1`, ... indefinitely.

        `config.workers` processes prefetch them, and for a GPU a thread moves them to pinned memory. Raises
        ValueError if a file cannot be used (with `data.damaged` "skip", if most cannot), or if shared memory
        is insufficient.
        """
        if self.config.workers:
            require_shared_memory()
        # With its own generator, DataLoader does not draw the workers' seed from the global one.
        steps = DataLoader(
            _Steps(self),
            batch_size=None,
            sampler=range(start_step, sys.maxsize),
            num_workers=self.config.workers,
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_begin_loading,
        )
        for loaded in steps:
            batch = loaded.opened() if isinstance(loaded, Parcel) else loaded
            if isinstance(batch, ValueError):
                raise batch
            yield batch


def collate(
    objects: Objects, choices: Sequence[Choice], *, num_sources: int, geometry: bool = False
) -> SceneBatch:
    """Read the scenes, optionally with their `geometry`.

    Sources are padded to `num_sources`; `valid` is False for padding.
    """
    scenes = [_read_scene(objects, choice, num_sources, geometry=geometry) for choice in choices]
    return _joined(objects, scenes)


def held_out_choice(objects: Objects, index: int, *, num_targets: int | None = None, seed: int = 0) -> Choice:
    """Choose a fixed source view of an object and `num_targets` evenly spaced others (default: all).

    The source is view 64 if there is one, otherwise view 0. Raises ValueError if the object has fewer
    views.
    """
    num_views, source = objects.num_views(index), customary_view(objects, index)
    if window := objects.config.window_at(1.0):  # views far apart have nothing in common
        num_views, source = min(num_views, window), 0
    others = [view for view in range(num_views) if view != source]
    count = len(others) if num_targets is None else num_targets
    if not 1 <= count <= len(others):
        raise ValueError(
            f"{objects.ids[index]}: has {num_views} views, but 1 source and {max(count, 1)} target views are "
            "needed; request fewer"
        )
    return Choice(index, (source,), tuple(evenly_spaced(others, count)), scene_seed(seed, index))


def held_out(objects: Objects, num: int, *, num_targets: int = 1, seed: int = 0) -> SceneBatch:
    """Load the first `num` objects (or all, if there are fewer) with the views of `held_out_choice`.

    With `data.damaged` "skip" an object with an unusable file is replaced by the next. Otherwise raises
    ValueError for such a file, and always if no object can be used.
    """
    scenes, damage, root = [], [], objects.config.root
    for index in range(len(objects)):
        try:
            choice = held_out_choice(objects, index, num_targets=num_targets, seed=seed)
            scenes.append(_read_scene(objects, choice, 1, geometry=False))
        except DamagedFileError as error:
            if objects.config.damaged == "stop":
                raise ValueError(with_advice(error, root)) from error
            damage.append(str(error))
        if len(scenes) == num:
            break
    if not scenes:
        advice = f"`python -m scripts.check_data {root}` lists what is wrong"
        raise ValueError(f"{root}: no held-out object can be used; {advice}; the last: {damage[-1]}")
    return replace(_joined(objects, scenes), damage=tuple(damage))


def scene_seed(seed: int, number: int) -> int:
    """Return the seed of a scene, valid for an int64 tensor and torch.Generator."""
    return hashed_seed("scene", seed, number)


@dataclass(frozen=True)
class _Scene:
    """One scene that has been read."""

    choice: Choice
    source: Views  # a batch of one, like the target
    target: Views
    damage: tuple[str, ...] = ()  # of the scenes it replaces


class _Steps(Dataset):
    """The data set of the loader processes: batches by step, or the error of a step."""

    def __init__(self, loader: SceneLoader):
        self._loader = loader
        self.ending = shared_ending() if loader.config.workers else None

    def __getitem__(self, step: int) -> SceneBatch | Parcel | ValueError:
        # Returned, not raised: a worker's exception would be wrapped in its traceback.
        try:
            batch = self._loader.load(step)
        except ValueError as error:
            return (TemporaryError if is_temporary(error) else ValueError)(str(error))
        return batch if get_worker_info() is None else pack(batch)


def _begin_loading(_: int) -> None:
    ignore_signals(get_worker_info().dataset.ending)


def _counts(objects: Objects, config: DataConfig) -> Iterator[tuple[str, int]]:
    """Yield the name and number of views of every object; unreadable ones are skipped if damage is."""
    for index, name in enumerate(objects.ids):
        try:
            yield name, objects.num_views(index)
        except DamagedFileError as error:
            if config.damaged == "stop":
                raise ValueError(with_advice(error, config.root)) from error


def _read_scene(objects: Objects, choice: Choice, num_sources: int, *, geometry: bool) -> _Scene:
    index, views = choice.object_index, choice.source + choice.target
    found = objects.read_views(index, views, geometry=geometry)
    count = len(choice.source)
    padded = torch.tensor([*range(count), *[0] * (num_sources - count)])
    source = found.apply(lambda tensor: tensor[:, padded])
    source = replace(source, valid=torch.arange(num_sources)[None] < count)
    return _Scene(choice, source, found.apply(lambda tensor: tensor[:, count:]))


def _joined(objects: Objects, scenes: Sequence[_Scene]) -> SceneBatch:
    source = concatenate([scene.source for scene in scenes], axis=0)
    return SceneBatch(
        source=source,
        target=concatenate([scene.target for scene in scenes], axis=0),
        scene_ids=tuple(objects.ids[scene.choice.object_index] for scene in scenes),
        seeds=torch.tensor([scene.choice.seed for scene in scenes]),
        source_indices=valid_indices(source.valid),
        damage=tuple(chain.from_iterable(scene.damage for scene in scenes)),
    )


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=_generator("epoch", seed, epoch)).tolist())


def _generator(*key: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(hashed_seed(*key))


def own_objects(objects: Objects, *, rank: int, world: int) -> Sequence[int]:
    """Return the objects of a rank's shards: those whose index modulo `world` is `rank`.

    Raises ValueError if one of them is missing, or if ranks would have different numbers of shards.
    """
    raw = objects.raw
    if raw.num_shards % world:
        raise ValueError(
            f"data.shards=rank: {raw.num_shards} shards cannot be divided evenly among {world} ranks; pack "
            "again with another --shards, or use another number of ranks"
        )
    if missing := sorted(set(range(rank, raw.num_shards, world)) - set(raw.shards)):
        raise ValueError(
            f"data.shards=rank: rank {rank} of {world} needs shard {missing[0]} of {raw.num_shards}, which "
            "is not in data.root; copy it there"
        )
    own = [index for index in range(len(objects)) if raw.shard_of(index) % world == rank]
    if not own:
        raise ValueError(f"data.shards=rank: the shards of rank {rank} hold no objects; pack fewer shards")
    return own
