"""The setup of all measurements: device, sizes, repeats, and notes on what could not be measured."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from config.families import family
from config.run import RunConfig, load_config
from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole
from data.cameras.poses import orbit
from data.scenes.batch import SceneBatch, Views
from models.base import NVSModel
from models.device import choose_precision, compile_networks, place
from scripts.benchmark.baseline import plain_model
from scripts.benchmark.machine import ROOT, Ceilings
from scripts.benchmark.roofline import Work


@dataclass(frozen=True)
class ModelVariant:
    """A model and how precisely its networks compute."""

    name: str
    model: NVSModel
    autocast: str  # "float32" or "bfloat16"
    precision: str  # of its matrix products, as `Ceilings.flops` calls it


FULL = ROOT / "config" / "srn_cars_128.json"
UNTRAINED = ["model.encoder.weights=null", "data.root=unused"]  # speed does not depend on the weights
SMALL = [
    "model.encoder.backbone=tu-tf_mobilenetv3_small_minimal_100",
    "model.encoder.channels=2",
    "model.encoder.planes=4",
    "model.encoder.dilations=[1, 2, 3]",
    'model.renderer={"size": 4, "latent_channels": 4, "coarse": 4, "fine": 4, "field": {"hidden": 5}}',
    "model.denoiser.channels=[32, 32]",
    "model.denoiser.depths=[1, 1]",
    "model.denoiser.self_attention=[false, true]",
    "model.denoiser.mapping_width=16",
    "data.image_size=16",
    "data.workers=0",
    "sample.steps=2",
]


@dataclass
class Bench:
    """One run of the program. Inputs are the same on every call."""

    device: torch.device
    size: str  # "full" or "small"
    repeats: int
    plain_steps: int  # denoising steps of the plain sampler that are run
    ceilings: Ceilings
    variants: tuple[str, ...] = ()  # to measure; empty for all
    unmeasured: list[str] = field(default_factory=list)
    remarks: dict[str, list[str]] = field(default_factory=dict)  # by section
    counted: dict[tuple[str, bool], Work] = field(default_factory=dict)  # see `networks.part_work`

    def wants(self, variant: str) -> bool:
        """Whether a variant is to be measured."""
        return not self.variants or variant in self.variants

    def remark(self, section: str, text: str) -> None:
        """Add a note below the table of a section."""
        self.remarks.setdefault(section, []).append(text)

    @cached_property
    def config(self) -> RunConfig:
        """The run whose model is measured."""
        return load_config(FULL, UNTRAINED + (SMALL if self.size == "small" else []))

    def model(self) -> NVSModel:
        """A new model of the config on the device, with the same random weights every time."""
        return place(copy.deepcopy(self._first_model), self.device)

    @cached_property
    def _first_model(self) -> NVSModel:
        """On the CPU; to copy it takes less time than to make another."""
        torch.manual_seed(0)
        return family(self.config.model.family)(self.config.model)

    @property
    def network_precision(self) -> str:
        """Of float32 convolutions, whose inputs torch rounds on GPUs by default."""
        rounded = self.device.type == "cuda" and torch.backends.cudnn.allow_tf32
        return "tf32" if rounded else "float32"

    def cameras(self, num: int, *, first: int = 0) -> Cameras:
        """Cameras [1, num] around the object, a different place for every number from `first` on."""
        number = torch.arange(first, first + num, dtype=torch.float32)
        poses = orbit(2.4 * number, 0.1 + 0.3 * (number % 4))
        return cameras_from_poses(poses, pinhole()).apply(lambda tensor: tensor[None].to(self.device))

    def views(self, num: int, *, num_valid: int | None = None, first: int = 0) -> Views:
        """Photos [1, num] of noise, the first `num_valid` (default: all) valid."""
        size = self.config.data.image_size
        images = self.uniform(1, num, 3, size, size) * 2 - 1
        valid = torch.arange(num, device=self.device)[None] < (num if num_valid is None else num_valid)
        return Views(images, self.cameras(num, first=first), valid)

    def scene_batch(self, num_valid: int) -> SceneBatch:
        """One scene of the config's most sources, of which `num_valid` are valid, and its targets."""
        most, targets = self.config.data.largest_sources[1], self.config.data.targets
        source, target = self.views(most, num_valid=num_valid), self.views(targets, first=most)
        places = torch.arange(num_valid)
        return SceneBatch(source, target, ("noise",), torch.tensor([5]), source_indices=places)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers from 0 to 1."""
        return torch.rand(*shape, generator=torch.Generator().manual_seed(7)).to(self.device)


def model_variants(bench: Bench) -> Iterator[ModelVariant]:
    """Yield the selected variants, all with the same random weights."""
    low = choose_precision(bench.config.train.precision, bench.device)
    wanted = {"plain": "float32", "ours": low}
    if low != "float32" or "float32" in bench.variants:
        wanted["float32"] = "float32"
    if "bfloat16" in bench.variants:  # equal to "ours" if that is the choice, otherwise slow
        wanted["bfloat16"] = "bfloat16"
    if bench.device.type == "cuda" or "compiled" in bench.variants:
        wanted["compiled"] = low
    for name, autocast_to in wanted.items():
        if not bench.wants(name):
            continue
        model = plain_model(bench.model()) if name == "plain" else bench.model()
        if name == "compiled":
            try:
                compile_networks(model, bench.device)
            except ValueError as error:
                bench.unmeasured.append(f"{name}: {error}")
                continue
        precision = bench.network_precision if autocast_to == "float32" else autocast_to
        yield ModelVariant(name, model, autocast_to, precision)
