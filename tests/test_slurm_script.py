"""The SLURM script, with stand-ins for SLURM's own programs and torchrun on two machines of two GPUs."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from config.run import load_config

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "slurm_train.sbatch"
# Machines in SLURM's order, which is not that of their letters.
MACHINES = ["node2", "node10"]
SRUN = """
[[ $1 == --kill-on-bad-exit=1 ]] && shift
for machine in node2 node10; do
    SLURMD_NODENAME=$machine LOCAL=${LOCAL:-}/$machine "$@" & started+=($!)
done
trap 'kill -TERM "${started[@]}"' TERM
wait "${started[@]}" || wait "${started[@]}"
"""
PROGRAMS = {
    "scontrol": 'if [[ $1 == show ]]; then printf "%s\\n" node2 node10; else echo "$@" > requeued; fi',
    "srun": SRUN,
    "torchrun": 'printf "%s\\n" "$@" > "torchrun-$SLURMD_NODENAME"; [[ ! -e endless ]] || sleep 100 & wait',
}


@pytest.fixture
def submit(tmp_path):
    """submit(*arguments, **environment): the script, begun in `tmp_path`."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    job = {
        "SLURM_JOB_ID": "123456",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_CPUS_PER_TASK": "8",
    }
    job |= {"SLURM_JOB_NODELIST": "node[2,10]", "TMPDIR": str(tmp_path)}
    started = []

    def begin(*arguments: str, **environment: str) -> subprocess.Popen:
        path = f"{tmp_path}:{os.environ['PATH']}"
        command, settings = ["bash", str(SCRIPT), *arguments], os.environ | job | environment | {"PATH": path}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=settings))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def launches(folder: Path) -> list[list[str]]:
    """What torchrun was told on each machine."""
    return [(folder / f"torchrun-{machine}").read_text().splitlines() for machine in MACHINES]


def test_every_machine_launches_training_with_the_command_line_given(submit, tmp_path):
    changes = ["data.root=/shared/my cars", "train.batch=8"]
    assert submit("config/srn_cars_128.json", *changes).wait(30) == 0
    for machine, words in zip(MACHINES, launches(tmp_path), strict=True):
        options = get_args_parser().parse_args(words)
        assert (options.nnodes, options.nproc_per_node, options.max_restarts) == ("2", "2", 3)
        assert (options.rdzv_backend, options.rdzv_id) == ("c10d", "123456-0")
        assert (options.rdzv_endpoint, options.local_addr) == ("node10:23456", machine)
        assert (ROOT / options.training_script).is_file()
        config, *given = options.training_script_args
        assert given == changes
        assert load_config(ROOT / config, given).train.batch == 8


def test_every_machine_copies_the_shards_that_its_ranks_read(submit, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    names = [f"train-{shard:05d}-of-00012.safetensors" for shard in range(12)]
    for name in (*names, "val.safetensors"):
        (packed / name).touch()
    assert submit("config/srn_cars_128.json", PACKED=str(packed)).wait(30) == 0
    # Launchers are numbered in the order of letters: node10 has ranks 0 and 1, node2 has 2 and 3.
    for machine, ranks in (("node10", (0, 1)), ("node2", (2, 3))):
        copied = {path.name for path in (tmp_path / "genvs-123456" / machine).iterdir()}
        assert copied == {"val.safetensors", *(names[shard] for shard in range(12) if shard % 4 in ranks)}
    config, *changes = get_args_parser().parse_args(launches(tmp_path)[0]).training_script_args
    data = load_config(ROOT / config, changes).data
    assert (data.shards, data.root) == ("rank", f"{tmp_path}/genvs-123456")


def test_a_job_whose_time_is_up_passes_it_on_and_is_queued_again(submit, tmp_path):
    (tmp_path / "endless").touch()
    process = submit("config/srn_cars_128.json", "data.root=/shared/cars")
    deadline = time.monotonic() + 300
    while not all((tmp_path / f"torchrun-{machine}").exists() for machine in MACHINES):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 0
    assert (tmp_path / "requeued").read_text() == "requeue 123456\n"
