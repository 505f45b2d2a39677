"""models/device.py: moving and compiling. torch.compile is tried in processes without the type checks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.device import place, to_device_of
from tests.scenes import tiny_model

ROOT = Path(__file__).resolve().parents[2]


def test_a_tensor_follows_another_to_its_device_and_its_precision():
    numbers, wide = torch.rand(3), torch.zeros((), dtype=torch.float64)
    assert torch.equal(to_device_of(wide, numbers), numbers.double())
    assert to_device_of(wide, torch.arange(3)).dtype == torch.int64
    assert to_device_of(wide, torch.ones(3, dtype=torch.bool)).dtype == torch.bool
    assert to_device_of(torch.empty(2, device="meta"), numbers).device.type == "meta"
    assert to_device_of(torch.empty(2), numbers) is numbers


def test_placing_a_model_on_the_cpu_turns_the_denoiser_alone_and_changes_no_value():
    model = tiny_model()
    before = {name: (value.clone(), value.stride()) for name, value in model.state_dict().items()}
    assert place(model, torch.device("cpu")) is model
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name][0])
        if name.startswith("denoiser.") and value.ndim == 4:
            assert value.is_contiguous(memory_format=torch.channels_last)
        else:
            assert value.stride() == before[name][1]


PROGRAM = """
import sys
sys.path[:0] = ["tests"]
import torch
from scenes import ready_batch, tiny_model
{body}
"""


def run(body: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a program outside pytest, whose run-time checks torch cannot compile."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_torch_can_follow_every_network_from_beginning_to_end():
    """Without a break in the graph; the backend `eager` then runs it as it stands, to the same numbers."""
    finished = run("""
batch, results = ready_batch([[True, False], [True, True]]), []
for compiled in (False, True):
    model = tiny_model(denoiser={"checkpointing": True})
    names = list(model.state_dict())
    for network in model.networks() if compiled else ():
        network.compile(backend="eager", fullgraph=True)
    losses = model.loss(batch, progress=0.0)
    sum(losses.values()).backward()
    results.append([*losses.values(), *(parameter.grad for parameter in model.parameters())])
    assert list(model.state_dict()) == names
for one, other in zip(*results, strict=True):
    torch.testing.assert_close(one, other)
assert len(model.networks()) == 3
""")
    assert finished.returncode == 0, finished.stderr


SMALL = """
from torch import nn
from models.device import compile_networks

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(2, 3, 3)
    def networks(self):
        return (self.layer,)
"""


def test_compiled_networks_compute_the_same_under_the_same_names(tmp_path):
    finished = run(
        SMALL
        + """
model, images = Small(), torch.rand(2, 2, 5, 7)
names, expected = list(model.state_dict()), model.layer(images)
compile_networks(model, torch.device("cpu"))
torch.testing.assert_close(model.layer(images), expected)
assert list(model.state_dict()) == names
""",
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path),
    )
    assert finished.returncode == 0, finished.stderr
    assert any(tmp_path.rglob("*.so"))  # from which the next process starts


def test_a_machine_that_cannot_compile_says_so_in_one_line(tmp_path):
    finished = run(
        SMALL
        + """
try:
    compile_networks(Small(), torch.device("cpu"))
except ValueError as error:
    print(error)
""",
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path),
        CXX="/nowhere/g++",
        PATH=str(tmp_path),
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("train.compile: ")
    assert "set train.compile=false" in finished.stdout
    assert len(finished.stdout.splitlines()) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_gpu_convolutions_have_their_channels_last():
    model = place(tiny_model(), torch.device("cuda"))
    assert model.denoiser.inner_model.u_net.d_blocks[0][1].main[2].weight.stride()[1] == 1
    assert to_device_of(torch.empty(1, device="cuda"), torch.rand(3)).is_cuda
