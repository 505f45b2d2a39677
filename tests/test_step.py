"""The training step as a whole: the host never waits for a GPU, and layouts and savings change no number."""

import copy
import traceback
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from config.run import OptimConfig
from data.scenes.batch import Views
from models.checkpoints.format import load_checkpoint
from models.training.ema import EMA
from models.training.meter import Meter
from models.training.optimizer import clip_gradients, make_optimizer, trained_parameters
from models.training.run_directory import restore, save_checkpoint
from tests.scenes import ready_batch, tiny_model

ROOT = Path(__file__).resolve().parents[1]
# What a host asks of a GPU: a number, the places of what is true, whether a decomposition succeeded.
WAITING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::is_nonzero",
    "aten::unique_dim",
    "aten::_unique2",
    "aten::_linalg_check_errors",
    "aten::repeat_interleave",
}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
EVERYTHING = {
    "loss": {
        "diffusion": 1.0,
        "rgb": 2.0,
        "rgb_source": 0.5,
        "opacity": 0.1,
        "depth": 0.3,
        "depth_consistency": 0.4,
        "opacity_consistency": 0.6,
    },
    "augment": {"prob": 0.5},
    "source_noise": 0.2,
    "drop_condition_prob": 0.5,
    "frame": "first_source",
    "renderer": {"backend": "reference"},  # blocked asks a CPU for numbers, fused needs a GPU
}


class Makers(TorchFunctionMode):
    """Collects numbers of the host that become a tensor on `device`, which not every device dispatches."""

    def __init__(self, device: str, found: list[str]):
        super().__init__()
        self.device, self.found = device, found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in (torch.tensor, torch.as_tensor, Tensor.new_tensor) and self.device != "cpu":
            data = args[1] if function is Tensor.new_tensor else args[0]
            if result.device.type == self.device and not isinstance(data, Tensor):
                self.found.append(f"{function.__name__} at {_where()}")
        return result


class Watch(TorchDispatchMode):
    """Collects operations for which the host would wait if `device` were a GPU."""

    def __init__(self, device: str):
        super().__init__()
        self.device, self.found = device, []
        self._makers = Makers(device, self.found)

    def __enter__(self):
        self._makers.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._makers.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function._schema.name
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        there = [tensor for tensor in tensors if tensor.device.type == self.device]
        asked = name in WAITING and there
        masked = name in INDEXING and any(
            index is not None and index.dtype == torch.bool and index.device.type == self.device
            for index in args[1]
        )
        # Numbers of the host that become a tensor there, or a copy of which the host sees the end.
        made = name == "aten::lift_fresh" and there and self.device != "cpu"
        target = kwargs.get("device")
        sent = (
            name == "aten::_to_copy"
            and target is not None
            and torch.device(target).type != tensors[0].device.type
            and not kwargs.get("non_blocking", False)
        )
        if asked or masked or made or sent:
            self.found.append(f"{name} at {_where()}")
        return function(*args, **kwargs)


def _where() -> str:
    """The line of the project that is being executed."""
    own = [frame for frame in traceback.extract_stack() if Path(frame.filename).parent.parent == ROOT]
    frames = [frame for frame in own if Path(frame.filename) != Path(__file__)] or own
    return f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno}"


@pytest.fixture
def batch():
    return ready_batch([[True, False], [True, True]], num_target=2)


def test_the_watch_sees_what_it_should():
    numbers = torch.rand(5)
    for wait in (
        lambda: numbers[0].item(),
        lambda: numbers[numbers > 0.5],
        lambda: float(numbers.sum()),
        lambda: torch.linalg.inv(torch.eye(3)),
    ):
        with Watch("cpu") as watch:
            wait()
        assert watch.found
    there = numbers.to("meta")
    for send in (
        lambda: numbers.to("meta"),
        lambda: torch.tensor([1.0], device="meta"),
        lambda: torch.as_tensor(1.0, device="meta"),
        lambda: there.new_tensor([1.0]),
    ):
        with Watch("meta") as watch:
            send()
        assert watch.found
    with Watch("meta") as watch:
        numbers.to("meta", non_blocking=True) + torch.as_tensor(there)
    assert watch.found == []


def test_no_step_waits_for_a_number(batch):
    model = tiny_model(**EVERYTHING)
    config = OptimConfig()
    optimizer, ema, meter = make_optimizer(model, config), EMA(model, 0.9), Meter()
    trained = trained_parameters(model)

    def step(number: int) -> None:
        losses = model.loss(batch, progress=number / 10)
        sum(losses.values()).backward()
        meter.add(number, losses | clip_gradients(trained, config.clip))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(model, number)

    step(1)  # on a CPU, the first makes the optimiser's state
    with Watch("cpu") as watch:
        step(2)
    assert watch.found == []
    assert meter.report()[0]["diffusion"] > 0


def test_what_a_step_sends_to_a_device_does_not_make_the_host_wait(batch, monkeypatch):
    """The device `meta` stands for a GPU: it computes shapes alone, and refuses to tell any number."""
    model = tiny_model(**EVERYTHING).to("meta")
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it does not know this device
    there = batch.apply(lambda tensor: tensor.to("meta"))
    with Watch("meta") as watch:
        sum(model.loss(there, progress=0.3).values()).backward()
    assert sorted(set(watch.found)) == []
    assert all(parameter.grad is not None for parameter in model.parameters())


def losses_and_gradients(model, batch) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    torch.manual_seed(11)  # dropout
    losses = model.loss(batch, progress=0.3)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    return [value.detach() for value in losses.values()] + [p.grad for p in model.parameters()]


def test_knowing_where_the_padding_is_changes_nothing(batch):
    model = tiny_model(**EVERYTHING)
    known = losses_and_gradients(model, batch)
    asked = losses_and_gradients(model, replace(batch, source_indices=None))
    assert all(torch.equal(one, other) for one, other in zip(known, asked, strict=True))


def test_nothing_depends_on_what_padding_shows(batch):
    model = tiny_model(**EVERYTHING)
    source = batch.source
    other = torch.where(source.valid[:, :, None, None, None], source.images, torch.ones(()))
    changed = replace(batch, source=Views(other, source.cameras, source.valid))
    pair = [losses_and_gradients(model, one) for one in (batch, changed)]
    assert not torch.equal(other, source.images)
    assert all(torch.equal(one, other) for one, other in zip(*pair, strict=True))


@pytest.mark.parametrize("parts", [["encoder"], ["denoiser"], ["encoder", "denoiser"]])
def test_checkpointing_changes_neither_losses_nor_gradients(batch, parts):
    plain = tiny_model(denoiser={"dropout": 0.3})
    changes = {part: {"checkpointing": True} for part in parts}
    changes["denoiser"] = changes.get("denoiser", {}) | {"dropout": 0.3}
    saving = tiny_model(**changes)
    assert list(saving.state_dict()) == list(plain.state_dict())
    saving.load_state_dict(plain.state_dict())
    expected, found = (losses_and_gradients(model.train(), batch) for model in (plain, saving))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_checkpointing_keeps_fewer_numbers_for_the_backward_pass(batch):
    def kept(model) -> int:
        sizes = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.loss(batch, progress=0.3)
        return sum(sizes.values())

    saving = {"encoder": {"checkpointing": True}, "denoiser": {"checkpointing": True}}
    assert kept(tiny_model(**saving)) < 0.8 * kept(tiny_model())


def test_channels_last_changes_rounding_alone(batch):
    model = tiny_model(**EVERYTHING)
    turned = copy.deepcopy(model).to(memory_format=torch.channels_last)
    weight = turned.encoder.decoder.up_to_1.conv.weight
    assert not weight.is_contiguous()
    expected, found = (losses_and_gradients(one, batch) for one in (model, turned))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-4)


def test_a_run_with_channels_last_resumes_to_the_last_bit_and_its_file_knows_nothing_of_it(batch, tmp_path):
    config = OptimConfig(warmup=0, lr=1e-3)

    def made() -> tuple:
        model = tiny_model().to(memory_format=torch.channels_last)
        return model, EMA(model, 0.9), make_optimizer(model, config)

    def step(model, ema, optimizer, number: int) -> None:
        sum(model.loss(batch, progress=number / 10).values()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(model, number)

    first, path = made(), tmp_path / "step-00000002.safetensors"
    for number in (1, 2):
        step(*first, number)
    save_checkpoint(path, *first, step=2, config={})
    second, loaded = made(), load_checkpoint(path)
    assert all(tensor.is_contiguous() for tensor in loaded.tensors.values())
    for name, value in first[0].state_dict().items():
        assert torch.equal(loaded.section("model")[name], value)
    restore(loaded, *second)
    for run in (first, second):
        step(*run, 3)
    for one, other in zip(first[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(one, other)
        for key in ("exp_avg", "exp_avg_sq"):
            assert first[2].state[one][key].stride() == second[2].state[other][key].stride() == one.stride()
