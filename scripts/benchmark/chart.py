"""The renderer's time over the number of rays, sources and samples, as a picture."""

from pathlib import Path

from data.images import write_whole
from scripts.benchmark.measure import Figure
from scripts.benchmark.renderer import Growth

LABELS = {"rays": "rays", "sources": "source views", "samples": "samples a ray"}
INCHES = (12, 4)
FLOOR = "floor"  # the time that the least work needs at the machine's ceilings


def write_chart(path: Path, growth: Growth, title: str) -> None:
    """Write a PNG with a panel for each thing that grows; the file appears whole or not at all.

    Both axes are logarithmic, so that a straight line at 45 degrees is time in proportion. Raises ValueError
    where the file cannot be written.
    """
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=INCHES, layout="constrained")
    panels = picture.subplots(1, len(growth), sharey=True, squeeze=False)[0]
    for panel, (axis, rows) in zip(panels, growth.items(), strict=True):
        for variant, points in _lines(rows).items():
            style = {"color": "grey", "linestyle": "--"} if variant == FLOOR else {"marker": "o"}
            panel.plot(*zip(*points, strict=True), **style, label=variant)
        panel.set(xscale="log", yscale="log", xlabel=LABELS[axis])
        panel.set_xticks(list(rows), [str(amount) for amount in rows])
        panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("seconds, forward")
    panels[0].legend()
    picture.suptitle(title)
    write_whole(path, lambda unfinished: picture.savefig(unfinished, dpi=120))


def _lines(rows: dict[int, list[Figure]]) -> dict[str, list[tuple[int, float]]]:
    """(amount, seconds) of every variant, and of the floor."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for amount, figures in rows.items():
        if not figures:  # nothing that was asked for can run here
            continue
        for figure in figures:
            lines.setdefault(figure.variant, []).append((amount, figure.seconds))
        lines.setdefault(FLOOR, []).append((amount, figures[0].floor))
    return lines
