"""Which data a run learns from, and how it is read."""

from typing import Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from data.schedule import Count, Ramp, count_at, largest


class DataConfig(BaseModel, frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False):
    """Which pictures to learn from, and how many at a time."""

    root: str = Field(description="folder of the data set")
    layout: Literal[
        "auto", "packed", "nmr", "nmr_softras", "nmr_gen", "transforms", "colmap", "videos", "srn"
    ] = Field("auto", description="how its files are arranged; auto: by what is there")
    image_size: int = Field(
        128, ge=1, le=8192, description="pixels; pictures are resized to squares of this side"
    )
    resampling: Literal["area", "bicubic"] = Field(
        "area", description="how pictures of another size are resized; published: bicubic"
    )
    object_radius: float | None = Field(
        None,
        gt=0,
        description="scene units, sphere round the origin that is modelled; null: as large as is seen",
    )
    depth_scale: float = Field(
        1.0, gt=0, description="what depth pictures are multiplied by, where files have a step of their own"
    )
    views: str | None = Field(
        None,
        description="JSON file {object id: [numbers of the views to use, from 0]}; objects left out use all",
    )
    sources: tuple[Count, Count] = Field(
        (1, 3), description="fewest and most source views of a scene; each a number or a ramp"
    )
    targets: int = Field(1, ge=1, description="target views of a scene")
    near_source_prob: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of scenes in which one source is among the views nearest to the first target, as "
        "the views are that autoregressive sampling looks at",
    )
    window: Count | None = Field(
        None,
        description="most consecutive frames that the views of a scene are taken from, both ends among them; "
        "a number or a ramp; null: any views",
    )
    shards: Literal["all", "rank"] = Field(
        "all",
        description="which files of a packed training set a rank draws from; rank: those whose number "
        "modulo the ranks is its own, so that it needs no others on its disk",
    )
    damaged: Literal["stop", "skip"] = Field(
        "stop",
        description="what training does where a file cannot be used; skip: another scene takes its place, "
        "and the file is named and counted",
    )
    workers: int = Field(0, ge=0, description="loading processes per rank; 0: load in the training process")
    cache_mb: int = Field(
        2048, ge=0, description="megabytes of decoded pictures kept by a rank's loaders together"
    )

    @property
    def photo_options(self) -> dict[str, int | float | str | None]:
        """How photos become such pictures: keyword arguments of `data.photos.photos.read_photos`."""
        return {name: getattr(self, name) for name in ("image_size", "object_radius", "resampling")}

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
        """Fewest and most source views at a progress from 0 to 1, a ramp's value rounded (`count_at`)."""
        fewest, most = (count_at(count, progress) for count in self.sources)
        return fewest, max(fewest, most)  # ramps that were checked at a hundred places may cross between two

    def window_at(self, progress: float) -> int | None:
        """Frames in the longest window at a progress from 0 to 1; None: there are no windows."""
        return None if self.window is None else count_at(self.window, progress)

    @property
    def largest_sources(self) -> tuple[int, int]:
        """Fewest and most source views at their largest: what objects must have, and what batches hold."""
        fewest, most = (count_at(largest(count), 0.0) for count in self.sources)
        return fewest, most

    def scheduled(self, progress: float) -> dict[str, float]:
        """Current numbers of sources, those that are ramps, by their keys in the log."""
        keys, now = ("schedule/fewest_sources", "schedule/most_sources"), self.sources_at(progress)
        given = zip(keys, self.sources, now, strict=True)
        found = {key: float(count) for key, source, count in given if isinstance(source, Ramp)}
        if isinstance(self.window, Ramp):
            found["schedule/window"] = float(count_at(self.window, progress))
        return found
