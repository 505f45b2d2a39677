"""Scenes: a few objects with many views each, as stored by photo reconstruction programs.

A data set is the folder of one scene, or contains such folders one or two levels down. Several scenes are
split by scene: by folders called train, val and test or *_train, *_val and *_test if there are any, otherwise
a tenth, chosen by a hash of the names, is held out for val and test. A single scene is split by view: as its
files specify, otherwise every eighth image in order of names, starting with the first, is held out for val
and test. No image is both a training view and held out.

Views are in natural order of their image paths. Every problem is a one-line ValueError.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float, UInt8
from torch import Tensor

from data.images.scene_masks import Masks, read_masked_opacity, read_masked_picture
from data.scenes.objects import RawObjects
from data.splits import SPLITS, Split, hold_out, members, natural_key, split_named, subfolders

LOOK_AT = 8  # folders inspected to recognise the layout
EVERY = 8  # one in so many views of a single scene is held out


@dataclass(frozen=True)
class Scene:
    """The views of one scene; `splits` has the splits of each view (possibly none) if its files specify them.

    `notices` are messages about how the files were read, each starting with a file.
    """

    pictures: tuple[Path, ...]
    cam_to_world: Float[Tensor, "v 4 4"]  # OpenCV axes, world z up
    intrinsics: Float[Tensor, "v 3 3"]  # divided by the picture's size
    masks: tuple[Masks, ...]
    splits: tuple[frozenset[Split], ...] | None = None
    notices: tuple[str, ...] = ()

    def __getitem__(self, views: list[int]) -> "Scene":
        """Select some of the views."""
        return replace(
            self,
            pictures=tuple(self.pictures[view] for view in views),
            cam_to_world=self.cam_to_world[views],
            intrinsics=self.intrinsics[views],
            masks=tuple(self.masks[view] for view in views),
            splits=None if self.splits is None else tuple(self.splits[view] for view in views),
        )


class SceneObjects(RawObjects):
    """Scenes in folders, read by `read` on access.

    With a `split`, only the views of that split.
    """

    def __init__(
        self, root: Path, folders: list[Path], read: Callable[[Path], Scene], *, split: Split | None = None
    ):
        names = [folder.resolve().name for folder in folders]
        if len(set(names)) < len(names):
            names = ["_".join(folder.relative_to(root).parts) for folder in folders]
        self.ids = tuple(names)
        self._folders, self._read, self._split = tuple(folders), read, split
        self._scenes: dict[int, Scene] = {}

    def place(self, index: int) -> str:
        """Its folder."""
        return str(self._folders[index])

    def num_views(self, index: int) -> int:
        """The number of images with cameras."""
        return len(self._scene(index).pictures)

    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Poses and intrinsics in the order of the image names."""
        scene = self._scene(index)
        return scene.cam_to_world, scene.intrinsics

    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """RGB on white, masked if there are masks."""
        scene = self._scene(index)
        return read_masked_picture(scene.pictures[view], scene.masks[view])

    def alpha(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        """Opacity of images with transparency or an object mask."""
        scene = self._scene(index)
        return read_masked_opacity(scene.pictures[view], scene.masks[view])

    def notices(self, index: int) -> tuple[str, ...]:
        """Notices on keys without effect, rotated worlds, and masks, models and splits that are ignored."""
        scene = self._scene(index)
        if self._split is not None or scene.splits is None:
            return scene.notices
        place = self.place(index)
        return *scene.notices, f"{place}: the splits of its views are ignored among several scenes"

    def _scene(self, index: int) -> Scene:
        if index not in self._scenes:
            scene = self._read(self._folders[index])
            order = sorted(
                range(len(scene.pictures)), key=lambda view: natural_key(scene.pictures[view].as_posix())
            )
            scene = scene[order]
            if self._split is not None:
                scene = scene[views_of_split(scene, self._split, self.place(index))]
            self._scenes[index] = scene
        return self._scenes[index]


def open_scenes(
    root: Path, split: Split, *, is_scene: Callable[[Path], bool], read: Callable[[Path], Scene], what: str
) -> SceneObjects:
    """Open the scenes of a split, or a single scene with the views of that split.

    `what` describes a scene folder in messages. Raises ValueError if there is none.
    """
    folders = find_scenes(root, is_scene)
    if not folders:
        raise ValueError(f"data.root={root}: no scenes ({what}) in it or below; give another folder")
    if len(folders) == 1:
        return SceneObjects(root, folders, read, split=split)
    return SceneObjects(root, _scenes_of_split(root, folders, split), read)


def find_scenes(root: Path, is_scene: Callable[[Path], bool]) -> list[Path]:
    """Return the root if it is a scene, otherwise the scenes one or two levels down, sorted."""
    if not root.is_dir():
        return []
    if is_scene(root):
        return [root]
    found = []
    for child in subfolders(root):
        found += [child] if is_scene(child) else [deeper for deeper in subfolders(child) if is_scene(deeper)]
    return found


def holds_scenes(root: Path, is_scene: Callable[[Path], bool]) -> bool:
    """Whether there are scenes among the first few folders."""
    if not root.is_dir():
        return False
    children = subfolders(root)[:LOOK_AT]
    deeper = (folder for child in children for folder in subfolders(child)[:LOOK_AT])
    return is_scene(root) or any(map(is_scene, children)) or any(map(is_scene, deeper))


def views_of_split(scene: Scene, split: Split, name: str) -> list[int]:
    """Return the views of a single scene that belong to a split; val and test substitute for one another.

    Raises ValueError, starting with `name`, if there are none, or if an image is in both training and
    held-out views.
    """
    count, files = len(scene.pictures), [os.path.realpath(picture) for picture in scene.pictures]
    assigned = scene.splits or (frozenset(),) * count
    views = {part: [view for view in range(count) if part in assigned[view]] for part in SPLITS}
    if not (views["val"] or views["test"]):  # all are training views, or none is assigned
        numbers = {file: number for number, file in enumerate(dict.fromkeys(files))}
        held_out = [view for view in range(count) if numbers[files[view]] % EVERY == 0]
        views = {"train": [view for view in range(count) if numbers[files[view]] % EVERY]}
        views |= {"val": held_out, "test": held_out}
    trained_on = {files[view] for view in views["train"]}
    for part in ("val", "test"):
        if both := [view for view in views[part] if files[view] in trained_on]:
            raise ValueError(
                f"{name}: {scene.pictures[both[0]]} is for train and for {part} (of {len(both)} such "
                "images); keep each in one of the two"
            )
    chosen = members(views, split)
    if not chosen:
        raise ValueError(f"{name}: none of its {count} views is for {split}; add views")
    return [*chosen]


def _scenes_of_split(root: Path, folders: list[Path], split: Split) -> list[Path]:
    above = {folder: folder.relative_to(root).parts[:-1] for folder in folders}
    named = {part: [f for f in folders if part in map(split_named, above[f])] for part in SPLITS}
    if not (named["val"] or named["test"]):
        return hold_out(folders, split)
    if chosen := members(named, split):
        return [*chosen]
    raise ValueError(f"data.root={root}: there are no scenes for {split}; add some")
