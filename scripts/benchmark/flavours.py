"""The models that sections other than the renderer's compare."""

from collections.abc import Iterator
from dataclasses import dataclass

from models.base import NVSModel
from models.device import choose_precision, compile_networks
from scripts.benchmark.bench import Bench
from scripts.benchmark.plain import plain_model


@dataclass(frozen=True)
class Flavour:
    """A model and how precisely its networks compute."""

    name: str
    model: NVSModel
    autocast: str  # "float32" or "bfloat16"
    precision: str  # of its matrix products, as `Ceilings.flops` calls it


def flavours(bench: Bench) -> Iterator[Flavour]:
    """Those that are wanted, one by one, all with the same random weights."""
    low = choose_precision(bench.config.train.precision, bench.device)
    wanted = {"plain": "float32", "ours": low}
    if low != "float32" or "float32" in bench.variants:
        wanted["float32"] = "float32"
    if "bfloat16" in bench.variants:  # the same as ours where that is the choice, and slow where it is not
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
        yield Flavour(name, model, autocast_to, precision)
