"""The options that determine a base."""

from dataclasses import asdict, dataclass

VERSION = 1  # of cars, captions, networks and training, so that different ones never mix
FIRST_CAR = 1_000_000  # far from the numbers of every data set: a base has seen none of their cars


@dataclass(frozen=True)
class BaseOptions:
    """Counts; sizes in pixels and channels. The defaults are planned for 2400 CPU seconds in all."""

    cars: int = 1000
    views: int = 10  # of each car
    held_out: int = 24  # further cars, four views each, for the figures
    size: int = 64
    vae_steps: int = 1200
    unet_steps: int = 1700
    vae_batch: int = 16
    unet_batch: int = 16
    seed: int = 0
    vae_channels: tuple[int, ...] = (16, 32, 64)
    unet_channels: tuple[int, ...] = (64, 128, 128)
    text_width: int = 64
    sample_steps: int = 30  # of the samples on the contact sheet
    version: int = VERSION

    def __post_init__(self):
        least = {"cars": 1, "views": 1, "held_out": 1, "vae_steps": 1, "unet_steps": 1, "seed": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} is {getattr(self, name)}; give {minimum} or more")

    @property
    def record(self) -> dict[str, object]:
        """The options as JSON holds them."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }
