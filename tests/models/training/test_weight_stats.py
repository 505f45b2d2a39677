"""models/training/meter.py: what a run tells of its weights and of its memory."""

import math

import pytest
import torch

from models.training.ema import EMA
from models.training.meter import WeightStats
from tests.scenes import tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def numbers(tensors) -> list[float]:
    return [number for tensor in tensors for number in tensor.detach().double().flatten().tolist()]


def test_norms_and_drift_are_those_of_all_numbers_one_by_one(model):
    ema = EMA(model, 0.9)
    generator = torch.Generator().manual_seed(1)
    for average in ema.shadow.values():
        average += 0.1 * torch.randn(average.shape, generator=generator)
    found = WeightStats(model, ema, CPU).weights()
    parts = ("encoder", "renderer", "denoiser")
    assert list(found) == [*(f"weight_norm/{part}" for part in parts), "ema_drift"]
    for part in parts:
        squares = sum(number**2 for number in numbers(getattr(model, part).parameters()))
        assert found[f"weight_norm/{part}"].item() == pytest.approx(math.sqrt(squares), rel=1e-4)
    weights, average = numbers(model.parameters()), numbers(ema.shadow.values())
    apart = sum((one - other) ** 2 for one, other in zip(weights, average, strict=True))
    drift = math.sqrt(apart / sum(number**2 for number in weights))
    assert found["ema_drift"].item() == pytest.approx(drift, rel=1e-4)


def test_the_drift_after_an_update_is_that_of_the_formula(model):
    """Weights that double at once: the average keeps 2 / 11 of the old ones, a share of 1 / 11 of the new."""
    ema = EMA(model, 0.9999)
    watch = WeightStats(model, ema, CPU)
    assert watch.weights()["ema_drift"] == 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        ema.update(model, 1)
        assert watch.weights()["ema_drift"].item() == pytest.approx(1 / 11, rel=1e-4)
        for parameter in model.parameters():
            parameter.div_(2)


def test_without_a_gpu_nothing_is_said_of_its_memory(model):
    assert WeightStats(model, EMA(model, 0.9), CPU).memory() == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_memory_on_a_gpu_is_the_most_since_the_beginning(model):
    device = torch.device("cuda")
    watch = WeightStats(model, EMA(model, 0.9), device)
    before = watch.memory()["gpu_memory_mib"]
    torch.empty(64 * 2**20, dtype=torch.uint8, device=device)
    assert before + 60 < watch.memory()["gpu_memory_mib"] < before + 70
