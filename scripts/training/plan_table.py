"""The table of what the stages of a run cost, as measured by their first steps."""

import shutil
from collections.abc import Sequence

from models.training.preflight import Cost, scenes_of_update
from scripts.common.wording import duration


def plan(costs: Sequence[Cost]) -> str:
    """A table with a line for each run and, of several, the total time."""
    rows = [("run", "pixels", "steps", "scenes", "trained parameters", "memory", "a step", "in all")]
    rows += [_row(cost) for cost in costs]
    if len(costs) > 1:
        rows.append(("",) * 7 + (duration(sum(cost.total_seconds for cost in costs)),))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = (0, 4)  # columns of words
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def lacks_room(costs: Sequence[Cost]) -> str | None:
    """A warning if the checkpoints to be kept will not fit on the disk, else None."""
    needed = sum((cost.config.train.keep + 1) * cost.checkpoint_bytes for cost in costs)
    place = next(path for path in (costs[0].config.folder, *costs[0].config.folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed <= free:
        return None
    return (
        f"warning: checkpoints will need {_gigabytes(needed)}, but {place} has {_gigabytes(free)} left; "
        "lower train.keep, or choose another folder with runs=FOLDER"
    )


def _row(cost: Cost) -> tuple[str, ...]:
    config = cost.config
    return (
        config.name,
        str(config.data.image_size),
        str(config.train.steps),
        scenes_of_update(config),
        ", ".join(f"{part} {_count(number)}" for part, number in cost.trained.items()),
        "?" if cost.peak_bytes is None else _gigabytes(cost.peak_bytes),
        f"{cost.seconds:.2f} s",
        duration(cost.total_seconds),
    )


def _count(number: int) -> str:
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _gigabytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB"
