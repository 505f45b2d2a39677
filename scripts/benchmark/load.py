"""Training on a machine that also does something else: seconds a step beside busy processes.

    python -m scripts.benchmark.load
    python -m scripts.benchmark.load --spins 10000 1000 --neighbours 0 2

Each figure is a fresh process, because OpenMP reads its settings once. It trains config/quickstart_plain.json
on random pictures with the cores that it finds, beside processes that do nothing but compute. Settings take
turns; medians are printed. Nothing else should run meanwhile.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.common.threading_environment import SPIN_COUNT

ROOT = Path(__file__).resolve().parents[2]
UNLIMITED = 300_000  # the default of GNU OpenMP
WARM_UP = 2  # steps
# A neighbour ends with the process that started it, also when that is killed and cannot stop it.
NEIGHBOUR = "import os\nwhile os.getppid() == {parent}:\n    sum(range(1_000_000))"


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--spins", type=int, nargs="+", default=[UNLIMITED, 10_000, 1000], metavar="N", help=SPIN_COUNT)
    add("--neighbours", type=int, nargs="+", default=[0, 2, 6], metavar="N", help="busy processes")
    add("--rounds", type=int, default=2, metavar="N", help="processes for each figure (%(default)s)")
    add("--seconds", type=float, default=8, metavar="S", help="of training in each (%(default)s)")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        print(*time_steps(arguments.seconds))
        return 0
    found: dict[tuple[int, int], list[float]] = defaultdict(list)
    for _ in range(arguments.rounds):
        for neighbours in arguments.neighbours:
            for spins in arguments.spins:
                with busy(neighbours):
                    found[spins, neighbours] += _run(spins, arguments.seconds)
                median = statistics.median(found[spins, neighbours])
                print(f"{neighbours} neighbours, {spins} spins: {median:.3f} s", file=sys.stderr, flush=True)
    print("| spins |", *(f"beside {neighbours} |" for neighbours in arguments.neighbours))
    print("|---|" + "---|" * len(arguments.neighbours))
    for spins in arguments.spins:
        medians = [statistics.median(found[spins, neighbours]) for neighbours in arguments.neighbours]
        print(f"| {spins} |", *(f"{median:.3f} s |" for median in medians))
    return 0


@contextmanager
def busy(num: int) -> Iterator[None]:
    """Context beside `num` processes that compute without end."""
    program = NEIGHBOUR.format(parent=os.getpid())
    started = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(num)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def time_steps(seconds: float) -> list[float]:
    """Seconds of each training step, as many as fit into `seconds` after a warm-up, and two at least."""
    import torch

    from config.families import family
    from config.run import load_config
    from data.cameras.pinhole import cameras_from_poses
    from data.cameras.poses import srn_test_path
    from data.scenes.batch import SceneBatch, all_valid
    from models.training.ema import EMA
    from models.training.optimizer import clip_gradients, make_optimizer, trained_parameters

    config = load_config(ROOT / "config" / "quickstart_plain.json")
    torch.manual_seed(0)
    size, scenes = config.data.image_size, config.train.batch
    poses = torch.as_tensor(srn_test_path(2 * scenes)).float()
    intrinsics = torch.tensor([[1.1, 0.0, 0.5], [0.0, 1.1, 0.5], [0.0, 0.0, 1.0]]).expand(2 * scenes, 3, 3)
    cameras = cameras_from_poses(poses, intrinsics, object_radius=0.6)
    every = cameras.apply(lambda tensor: tensor.unflatten(0, (scenes, 2)))
    views = [
        all_valid(torch.rand(scenes, 1, 3, size, size), every.apply(lambda t, i=i: t[:, i : i + 1]))
        for i in (0, 1)
    ]
    batch = SceneBatch(*views, tuple(map(str, range(scenes))), torch.arange(scenes))
    model = family(config.model.family)(config.model)
    optimizer, ema = make_optimizer(model, config.optim), EMA(model, config.optim.ema)
    trained, times = trained_parameters(model), []
    while len(times) < WARM_UP + 2 or sum(times[WARM_UP:]) < seconds:
        start = time.perf_counter()
        sum(model(batch, 0.5).values()).backward()
        clip_gradients(trained, config.optim.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(model, len(times))
        times.append(time.perf_counter() - start)
    return times[WARM_UP:]


def _run(spins: int, seconds: float) -> list[float]:
    """The steps of a fresh process."""
    command = [sys.executable, "-m", "scripts.benchmark.load", "--child", "--seconds", str(seconds)]
    environment = os.environ | {SPIN_COUNT: str(spins)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in done.stdout.split()]


if __name__ == "__main__":
    sys.exit(main())
