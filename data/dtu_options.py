"""How a DTU data set is read: scenes, cameras, lighting, masks."""

from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

Subset = Literal["1", "3", "6", "9", "all34", "middle", "middle_by_2", "middle_by_3"]
PUBLISHED_SUBSETS = {0: "all34", -1: "middle", -2: "middle_by_2", -3: "middle_by_3"}
# By the published number of a preprocessing: how pictures become smaller, and their width and height.
PREPROCESSING: dict[int, tuple[str, tuple[int, int]]] = {
    0: ("pad", (512, 512)),
    1: ("resize", (512, 384)),
    2: ("resize", (768, 576)),
}


class DTUOptions(BaseModel, frozen=True, extra="forbid", coerce_numbers_to_str=True):
    """What is read of a DTU data set."""

    scenes: tuple[str, ...] | Literal["training", "test"] | None = Field(
        None,
        description='scenes that are split by view, such as ["scan65"], "training" (the 88) or "test" (the '
        "15); null: the 88 are for training, the 15 for val and test",
    )
    subset: Subset = Field(
        "all34",
        description="cameras of the training views: 1, 3, 6 or 9 of the fixed order, all34 (published number "
        "0), or every, every second or third of the cameras 12 to 35: middle, middle_by_2, middle_by_3 (-1, "
        "-2, -3)",
    )
    held_out: Literal["rest", "all34"] = Field(
        "rest",
        description="of scenes that are split by view, the views for val and test: rest, those of the 34 not "
        "for training, or all34",
    )
    lighting: Literal["0", "1", "2", "3", "4", "5", "6", "max"] = Field(
        "3", description="lighting of the pictures: 0 to 6, or max"
    )
    preprocessing: Literal["resize", "pad"] = Field(
        "resize",
        description="pad: black rows below make pictures square. The published numbers also set the size: "
        "0: pad, 512 x 512; 1: 512 x 384; 2: 768 x 576",
    )
    world: Literal["normalised", "calibration"] = Field(
        "normalised",
        description="world of cameras; calibration: that of the files, in millimetres, for models that are "
        "given the numbers of cameras and no rays",
    )
    background: Literal["photo", "white"] = Field(
        "photo", description="white: what the mask leaves out becomes white"
    )
    missing_masks: Literal["stop", "white"] = Field(
        "stop", description="a view whose mask is needed but missing; white: as if all of it were the object"
    )

    @field_validator("scenes", mode="before")
    @classmethod
    def _names(cls, scenes: Any) -> Any:
        """Complete the numbers of scans to the names of their folders."""
        if isinstance(scenes, int) or (isinstance(scenes, str) and scenes not in ("training", "test")):
            scenes = [scenes]
        if not isinstance(scenes, list | tuple):
            return scenes
        names = tuple(f"scan{name}" if str(name).isdecimal() else name for name in scenes)
        if not names or len(set(names)) < len(names):
            raise ValueError("name at least one scene, each once, or give null")
        return names

    @field_validator("subset", mode="before")
    @classmethod
    def _subset(cls, subset: Any) -> Any:
        """Translate the published numbers that are no numbers of views."""
        published = {str(number): name for number, name in PUBLISHED_SUBSETS.items()}
        return published.get(str(subset), _text(subset))

    @field_validator("lighting", mode="before")
    @classmethod
    def _lighting(cls, lighting: Any) -> Any:
        return _text(lighting)

    @field_validator("preprocessing", mode="before")
    @classmethod
    def _preprocessing(cls, value: Any) -> Any:
        published = isinstance(value, int) and not isinstance(value, bool) and value in PREPROCESSING
        return PREPROCESSING[value][0] if published else value


def _text(value: Any) -> Any:
    """A whole number as text, anything else as it is."""
    return str(value) if type(value) is int else value


def sized(document: Any) -> Any:
    """A document of `data` with the size that a published number of `dtu.preprocessing` stands for.

    Raises ValueError where another size is given.
    """
    dtu = document.get("dtu") if isinstance(document, dict) else None
    number = dtu.get("preprocessing") if isinstance(dtu, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or number not in PREPROCESSING:
        return document
    size = dict(zip(("image_size", "image_height"), PREPROCESSING[number][1], strict=True))
    for key, value in size.items():
        if document.get(key) not in (None, value):
            raise ValueError(
                f"dtu.preprocessing {number} makes {key} {value}, but it is {document[key]}; leave {key} "
                "out, or give preprocessing as resize or pad"
            )
    return document | size
