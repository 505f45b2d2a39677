"""Plots of a checked data set, with Pillow alone: a contact sheet of the objects, and camera positions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

from data.checks.check_object import Summary
from data.checks.cross_object import by_split
from data.checks.findings import Finding
from data.images.files import write_png

FRAMES = {"error": (214, 39, 40), "warning": (255, 140, 0)}
SPLIT_COLOURS = {"train": (31, 119, 180), "val": (214, 39, 40), "test": (44, 160, 44)}
TILE, CAPTION, COLUMNS, MOST_TILES = 104, 14, 12, 240  # pixels, pixels, and numbers
PANEL, MARGIN = 460, 46  # pixels
MOST_POINTS = 20_000  # cameras plotted at most
INK, FAINT = (60, 60, 60), (205, 205, 205)
BINS = 36


def write_sheet(path: Path, summaries: Sequence[Summary], findings: Sequence[Finding]) -> None:
    """Write a contact sheet with one image per object, framed if it has errors (red) or warnings (orange).

    If there are too many objects, those with findings come first, then others evenly spaced. Raises
    ValueError if the file cannot be written.
    """
    grave = _worst_severities(findings)
    chosen = _choose([s for s in summaries if s.thumbnail is not None], grave)
    columns = max(1, min(COLUMNS, len(chosen)))
    rows = -(-len(chosen) // columns)
    sheet = Image.new("RGB", (columns * TILE, rows * (TILE + CAPTION) + CAPTION + 4), "white")
    draw = ImageDraw.Draw(sheet)
    framed = sum((s.split, s.object_id) in grave for s in summaries)
    title = f"{len(chosen)} of {len(summaries)} objects; {framed} with findings (red: error, orange: warning)"
    draw.text((4, 2), title, INK, font=_font())
    for i, summary in enumerate(chosen):
        corner = i % columns * TILE, i // columns * (TILE + CAPTION) + CAPTION + 4
        _draw_tile(sheet, draw, corner, summary, grave.get((summary.split, summary.object_id)))
    _save(path, sheet)


def write_camera_plot(path: Path, summaries: Sequence[Summary]) -> None:
    """Plot the camera positions from above and from the side, and histograms of distance and elevation.

    Raises ValueError if the file cannot be written.
    """
    clouds = {split: _positions(group) for split, group in by_split(summaries).items()}
    clouds = {split: points for split, points in clouds.items() if len(points)}
    canvas = Image.new("RGB", (2 * PANEL, 2 * PANEL), "white")
    draw = ImageDraw.Draw(canvas)
    if clouds:
        reach = 1.08 * max(float(np.abs(points).max()) for points in clouds.values())
        flat = {split: points[:, :2] for split, points in clouds.items()}
        side = {split: points[:, [0, 2]] for split, points in clouds.items()}
        _scatter(draw, (0, 0), "seen from above (x to the right, y up)", flat, reach)
        _scatter(draw, (PANEL, 0), "seen from the side (x to the right, z up)", side, reach)
        lengths = {split: np.linalg.norm(points, axis=1) for split, points in clouds.items()}
        _histogram(draw, (0, PANEL), "distance from the origin / scene units", lengths)
        elevations = {
            split: np.degrees(np.arcsin(np.clip(points[:, 2] / np.maximum(lengths[split], 1e-9), -1, 1)))
            for split, points in clouds.items()
        }
        _histogram(draw, (PANEL, PANEL), "elevation / degrees", elevations, (-90.0, 90.0))
    _save(path, canvas)


def _worst_severities(findings: Sequence[Finding]) -> dict[tuple[str, str], str]:
    """Return the highest severity for every object with an error or a warning."""
    grave: dict[tuple[str, str], str] = {}
    for severity in ("warning", "error"):
        for finding in findings:
            if finding.severity == severity:
                grave[finding.split, finding.object_id] = severity
    return grave


def _choose(summaries: list[Summary], grave: dict[tuple[str, str], str]) -> list[Summary]:
    if len(summaries) <= MOST_TILES:
        return summaries
    marked = [s for s in summaries if (s.split, s.object_id) in grave][:MOST_TILES]
    others = [s for s in summaries if (s.split, s.object_id) not in grave]
    places = np.linspace(0, len(others) - 1, min(len(others), MOST_TILES - len(marked))).astype(int)
    return marked + [others[place] for place in places]


def _draw_tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    summary: Summary,
    severity: str | None,
) -> None:
    assert summary.thumbnail is not None
    x, y = corner
    picture = Image.fromarray(summary.thumbnail)
    sheet.paste(picture, (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2))
    if severity:
        draw.rectangle((x + 1, y + 1, x + TILE - 2, y + TILE - 2), outline=FRAMES[severity], width=3)
    name = summary.object_id.rsplit("/", 1)[-1]
    while draw.textlength(name, font=_font()) > TILE - 6 and len(name) > 4:
        name = f"{name[:-4]}..."
    draw.text((x + 3, y + TILE), name, INK, font=_font())


def _positions(group: Sequence[Summary]) -> Float[ndarray, "n 3"]:
    """Return the camera positions of a split, evenly subsampled if there are too many to plot."""
    clouds = [s.positions for s in group if s.positions is not None]
    points = np.concatenate([np.zeros((0, 3), np.float32), *clouds])
    points = points[np.isfinite(points).all(axis=1)]
    return points[:: max(1, -(-len(points) // MOST_POINTS))]


def _scatter(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    title: str,
    clouds: dict[str, Float[ndarray, "n 2"]],
    reach: float,
) -> None:
    """Plot points within +-reach, with circles around the origin."""
    middle = np.array(corner) + PANEL / 2 + np.array([0, 8])
    scale = (PANEL / 2 - MARGIN) / reach
    step = _round_step(reach / 2.5)
    for ring in np.arange(step, 1.5 * reach, step):
        radius = min(ring, reach) * scale
        draw.ellipse([*(middle - radius), *(middle + radius)], outline=FAINT)
        if ring <= reach:
            draw.text((middle[0] + 3, middle[1] - radius + 1), f"{ring:g}", FAINT, font=_font())
    for x, y in ((1, 0), (0, 1)):
        way = np.array([x, y]) * reach * scale
        draw.line([*(middle - way), *(middle + way)], fill=FAINT)
    for split, points in clouds.items():
        for x, y in middle + points * [scale, -scale]:
            draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=SPLIT_COLOURS.get(split, INK))
    draw.text((corner[0] + 12, corner[1] + 8), title, INK, font=_font())
    _legend(draw, corner, {split: len(points) for split, points in clouds.items()})


def _histogram(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    title: str,
    values: dict[str, Float[ndarray, "n"]],
    limits: tuple[float, float] | None = None,
) -> None:
    """Plot normalised histograms of every split, as outlines."""
    left, bottom = corner[0] + MARGIN, corner[1] + PANEL - MARGIN
    width, height = PANEL - 2 * MARGIN, PANEL - 2 * MARGIN - 10
    everything = np.concatenate(list(values.values()))
    low, high = limits or (float(everything.min()), float(everything.max()))
    if limits is None:  # so that a single distance does not fill the panel
        room = max(0.05 * high, 0.1 * (high - low))
        low, high = low - room, high + room
    shares = {
        split: np.histogram(np.clip(v, low, high), BINS, (low, high))[0] / len(v)
        for split, v in values.items()
    }
    top = max(float(share.max()) for share in shares.values())
    draw.line((left, bottom, left + width, bottom), fill=INK)
    for split, share in shares.items():
        corners = []
        for i, part in enumerate(share):
            y = bottom - part / top * height
            corners += [(left + i * width / BINS, y), (left + (i + 1) * width / BINS, y)]
        draw.line(
            [(left, bottom), *corners, (left + width, bottom)], fill=SPLIT_COLOURS.get(split, INK), width=2
        )
    for part in (0, 0.25, 0.5, 0.75, 1):
        x, text = left + part * width, f"{low + part * (high - low):.3g}"
        draw.line((x, bottom, x, bottom + 4), fill=INK)
        draw.text((x - draw.textlength(text, font=_font()) / 2, bottom + 6), text, INK, font=_font())
    draw.text((corner[0] + 12, corner[1] + 8), f"{title} (highest bin: {top:.0%})", INK, font=_font())


def _legend(draw: ImageDraw.ImageDraw, corner: tuple[int, int], counts: dict[str, int]) -> None:
    for i, (split, count) in enumerate(counts.items()):
        x, y = corner[0] + 12, corner[1] + 26 + 15 * i
        draw.rectangle((x, y + 2, x + 8, y + 10), fill=SPLIT_COLOURS.get(split, INK))
        draw.text((x + 13, y), f"{split}: {count}", INK, font=_font())


def _round_step(step: float) -> float:
    """Round `step` to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(step, 1e-12)))
    return float(power * min((1, 2, 5, 10), key=lambda digit: abs(digit * power - step)))


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default()


def _save(path: Path, image: Image.Image) -> None:
    write_png(path, torch.from_numpy(np.array(image)))
