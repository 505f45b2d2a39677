"""Configuration of the training data and how it is loaded."""

from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from data.dtu_options import DTUOptions, sized
from data.schedule import Count, Ramp, count_at, largest


class DataConfig(BaseModel, frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False):
    """Data set, image size and views per scene."""

    root: str = Field(description="folder of the data set")
    layout: Literal[
        "auto",
        "packed",
        "nmr",
        "nmr_softras",
        "nmr_gen",
        "transforms",
        "colmap",
        "dtu",
        "videos",
        "pictures",
        "srn",
    ] = Field("auto", description="how its files are arranged; auto: by what is there")
    image_size: int = Field(
        128, ge=1, le=8192, description="pixels; images are resized to this width, and height unless given"
    )
    image_height: int | None = Field(
        None, ge=1, le=8192, description="pixels, for images that are no squares; null: as image_size"
    )
    resampling: Literal["area", "bicubic"] = Field(
        "area", description="how images of another size are resized; published: bicubic"
    )
    object_radius: float | None = Field(
        None,
        gt=0,
        description="radius of the modelled sphere around the origin, scene units; null: as large as seen",
    )
    depth_scale: float = Field(
        1.0, gt=0, description="factor applied to depth images that are not in the layout's units"
    )
    views: str | None = Field(
        None,
        description="JSON file {object id: [indices of the views to use]}; objects not listed use all views",
    )
    dtu: DTUOptions = Field(DTUOptions(), description="what is read of a data set in the layout dtu")
    sources: tuple[Count, Count] = Field(
        (1, 3), description="fewest and most source views per scene; each a number or a ramp"
    )
    targets: int = Field(1, ge=1, description="target views per scene")
    near_source_prob: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that one source is among the views nearest to the first target, as when "
        "sampling autoregressively",
    )
    window: Count | None = Field(
        None,
        description="most consecutive frames that the views of a scene are taken from, both ends among them; "
        "a number or a ramp; null: any views",
    )
    shards: Literal["all", "rank"] = Field(
        "all",
        description="which shards of a packed training set a rank reads; rank: those whose index "
        "modulo the number of ranks is its own, so the others need not be on its disk",
    )
    damaged: Literal["stop", "skip"] = Field(
        "stop",
        description="what training does if a file cannot be used; skip: use another scene instead, "
        "and report and count the file",
    )
    workers: int = Field(0, ge=0, description="loader processes per rank; 0: load in the training process")
    cache_mb: int = Field(
        2048, ge=0, description="megabytes of decoded images cached by a rank's loaders together"
    )

    @property
    def height(self) -> int:
        """Height of images in pixels."""
        return self.image_height or self.image_size

    @property
    def photo_options(self) -> dict[str, int | float | str | None]:
        """How to read photos alike: keyword arguments of `data.photos.photos.read_photos`."""
        return {name: getattr(self, name) for name in ("image_size", "object_radius", "resampling")}

    @model_validator(mode="before")
    @classmethod
    def _sized(cls, document: Any) -> Any:
        return sized(document)

    @field_validator("sources")
    @classmethod
    def _ordered(cls, sources: tuple[Count, Count]) -> tuple[Count, Count]:
        for moment in range(101):
            fewest, most = (count_at(count, moment / 100) for count in sources)
            if not 1 <= fewest <= most:
                when = f"at progress {moment / 100:g} they are [{fewest}, {most}]: " if moment else ""
                raise ValueError(f"{when}give [fewest, most] with 1 <= fewest <= most")
        return sources

    @model_validator(mode="after")
    def _window_holds_the_views(self) -> "DataConfig":
        needed = self.largest_sources[1] + self.targets
        moments = range(101 if self.window is not None else 0)
        if any(count_at(self.window, moment / 100) < needed for moment in moments):
            raise ValueError(f"window must hold the most sources and the targets, {needed} frames; raise it")
        return self

    def sources_at(self, progress: float) -> tuple[int, int]:
        """Return the fewest and most source views at a progress from 0 to 1, rounded (`count_at`)."""
        fewest, most = (count_at(count, progress) for count in self.sources)
        return fewest, max(fewest, most)  # ramps are checked at a hundred points and may cross in between

    def window_at(self, progress: float) -> int | None:
        """Frames in the longest window at a progress from 0 to 1; None: there are no windows."""
        return None if self.window is None else count_at(self.window, progress)

    @property
    def largest_sources(self) -> tuple[int, int]:
        """The largest values of fewest and most source views: required of objects, and held by batches."""
        fewest, most = (count_at(largest(count), 0.0) for count in self.sources)
        return fewest, most

    def scheduled(self, progress: float) -> dict[str, float]:
        """Return the current numbers of sources that are ramps, by their keys in the log."""
        keys, now = ("schedule/fewest_sources", "schedule/most_sources"), self.sources_at(progress)
        given = zip(keys, self.sources, now, strict=True)
        found = {key: float(count) for key, source, count in given if isinstance(source, Ramp)}
        if isinstance(self.window, Ramp):
            found["schedule/window"] = float(count_at(self.window, progress))
        return found
