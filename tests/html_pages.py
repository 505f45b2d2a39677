"""Runs made up for tests of the report page, and a reader that knows nothing of how the page is made."""

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.report import __main__ as report

VOID = {"meta", "link", "img", "input", "br", "hr", "rect", "path"}  # rect and path close themselves


def plant_run(
    folder: Path,
    rows: list[dict],
    *,
    steps: int = 50,
    pictures: dict[int, tuple[int, int]] | None = None,
    warnings: list[tuple[int, str]] = (),
    **config,
) -> Path:
    """A run folder; `pictures` are steps with (height, width), of noise."""
    (folder / "samples").mkdir(parents=True)
    document = {"name": folder.name, "train": {"steps": steps, "batch": 3, "accumulate": 2}, **config}
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for step, size in (pictures or {}).items():
        pixels = np.random.default_rng(step).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "samples" / f"step-{step:08d}.png")
    if warnings:
        lines = (json.dumps({"step": step, "warning": text}) for step, text in warnings)
        (folder / "warnings.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


@dataclass
class Element:
    """A tag of the page with what is in it."""

    tag: str
    attributes: dict[str, str]
    children: list = field(default_factory=list)

    @property
    def text(self) -> str:
        """All words within, joined."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    def all(self, tag: str = "", kind: str = "") -> list["Element"]:
        """Every element within of that tag and class, in order."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if (not tag or child.tag == tag) and (not kind or kind in child.classes):
                    found.append(child)
                found += child.all(tag, kind)
        return found

    def with_id(self, name: str) -> "Element | None":
        return next((one for one in self.all() if one.attributes.get("id") == name), None)


class PageReader(HTMLParser):
    """Builds the tree, and insists that every tag is closed in its turn."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.root = Element("page", {})
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert len(self.open) == 1, f"never closed: {[one.tag for one in self.open[1:]]}"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), f"<{tag}> says {names} twice"
        element = Element(tag, {name: value or "" for name, value in attributes})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        assert tag in ("rect", "path"), f"<{tag}/>"
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.open[-1].children.append(data)


def read_page(path: Path) -> Element:
    """The page in a file."""
    return PageReader(path.read_text(encoding="utf-8")).root


def chart_of(page: Element, title: str) -> Element:
    """The chart of that title."""
    found = [chart for chart in page.all("figure", "chart") if chart.all("h4")[0].text == title]
    assert len(found) == 1, [chart.all("h4")[0].text for chart in page.all("figure", "chart")]
    return found[0]


def per_cent(element: Element, side: str) -> float:
    """A side of its style, as a share."""
    style = dict(rule.split(":") for rule in element.attributes["style"].split(";"))
    return float(style[side].removesuffix("%")) / 100


def shares(path: str) -> list[tuple[float, float]]:
    """Points of an SVG path as shares of a box of 1000 x 400, from the left and from the top."""
    words = path.replace("M", " ").replace("L", " ").replace("h0", " ").split()
    numbers = [float(word) for word in words]
    return [(x / 1000, y / 400) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]


def drawn_points(chart: Element, key: str, *, logarithmic: bool = False, kind: str = "dots"):
    """(step, value) of every dot, read off the axes by their marks, as a person would."""
    group = next(one for one in chart.all("g") if one.attributes["data-key"] == key)
    steps = [(per_cent(one, "left"), float(one.attributes["data-step"])) for one in chart.all("span", "x")]
    marks = [(per_cent(one, "top"), float(one.attributes["data-value"])) for one in chart.all("span", "y")]
    across = np.polyfit(*zip(*steps, strict=True), 1)
    heights, values = (np.array(column) for column in zip(*marks, strict=True))
    down = np.polyfit(heights, np.log10(values) if logarithmic else values, 1)
    points = np.array(shares(group.all("path", kind)[0].attributes["d"]))
    read = np.polyval(down, points[:, 1])
    return np.polyval(across, points[:, 0]), 10**read if logarithmic else read


def lines(num: int = 5, every: int = 10) -> list[dict]:
    """A log of odd numbers: every tenth step, previews at every second line."""
    rows = []
    for line in range(1, num + 1):
        row = {"step": line * every, "loss": 1.7 / line, "rgb": 1.2 / line, "opacity": 0.5 / line}
        row |= {"gradient_norm": 0.3 + line, "seconds": 7.3 + line, "data_wait": 0.125, "lr": 0.001}
        if line % 2 == 0:
            row |= {"held_out_preview_psnr": 14.25 - line, "held_out_sample_psnr": 11.625 + line}
        rows.append(row)
    return rows


def make(folder: Path, *arguments: str) -> Element:
    """The page of a run, which the program must be able to make."""
    output = folder.parent / "page.html"
    assert report.main([str(folder), "--output", str(output), *arguments]) == 0
    return read_page(output)


def numbers(element: Element) -> list[float]:
    """Exact values of the numbers within, in order."""
    return [float(one.attributes["value"]) for one in element.all("data")]
