"""What only a GPU can show: agreement with the CPU, mixed precision, resuming a fused optimiser's state."""

import copy
import json

import pytest
import torch

from diffusion.samplers import SampleOptions
from tests.scenes import run_document, scene_batch, tiny_model
from train import main

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.fixture(scope="module")
def model():
    return tiny_model().eval()


def test_gpu_and_cpu_compute_the_same_loss_and_gradients(model):
    batch, results = scene_batch([[True, False], [True, True]]), []
    for device in ("cpu", "cuda"):
        there = copy.deepcopy(model).to(device)
        loss = sum(there.loss(batch.apply(lambda tensor, d=device: tensor.to(d)), progress=0.0).values())
        loss.backward()
        norms = torch.stack([p.grad.norm().cpu() for p in there.parameters() if p.grad is not None])
        results.append((loss.detach().cpu(), norms))
    # TF32 convolutions round to 10 bits.
    torch.testing.assert_close(results[1], results[0], rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_ancestral", "dpmpp_2m_sde"])
def test_gpu_and_cpu_draw_the_same_view(model, sampler):
    batch, pictures = scene_batch([[True, True]]), []
    options = SampleOptions(sampler=sampler, steps=3)
    for device in ("cpu", "cuda"):
        there = batch.apply(lambda tensor, d=device: tensor.to(d))
        with torch.no_grad():
            drawn = (
                copy.deepcopy(model)
                .to(device)
                .sample(there.source, there.target.cameras, batch.seeds[:, None], options)
            )
        pictures.append(drawn.images.cpu())
    torch.testing.assert_close(pictures[1], pictures[0], rtol=0, atol=0.05)


def test_a_run_in_bfloat16_resumes_on_the_gpu(srn_root, tmp_path):
    document = run_document(srn_root, tmp_path / "runs")
    path = tmp_path / "run.json"
    path.write_text(json.dumps(document))
    for steps in (2, 4):
        changes = [f"train.steps={steps}", "train.device=cuda", "train.precision=bfloat16", "name=resumed"]
        assert main([str(path), *changes]) == 0
    lines = (tmp_path / "runs/resumed/log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 4
