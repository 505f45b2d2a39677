"""The page: every object, the ways in which it was drawn side by side, and the figures of all."""

import json
from collections.abc import Sequence

from models.generated import same_cameras
from scripts.common.html.document import beginning, beside, ending
from scripts.common.html.wording import escape, number, plural
from scripts.consistency import mean
from scripts.gallery.assets import FOLDER, MADE_BY, Media
from scripts.gallery.methods import MEASURES, Column
from scripts.gallery.sprite_sheets import Cell, Exhibit, Strip

SHOWN = {  # of KINDS, what is below the samples, and what it is called
    "preview": "Preview",
    "depth": "Depth",
    "mean": "Mean of samples",
    "spread": "Spread of samples",
}
WIDE = 2  # columns; of more, only the samples are shown at first
NOTE = (
    "Means over films, with standard errors. Reprojection error: how far neighbouring views disagree about "
    "the surface that both see, in levels of 8 bits; little of it may also mean that a film is blurred, and "
    "has little detail."
)
CAMERAS_DIFFER = (
    "Of some objects, the cameras of the columns differ; reprojection errors of views that are spaced "
    "differently do not compare."
)
VIEWS_DIFFER = "The cameras differ: films side by side do not show the same views."
OBJECTS_DIFFER = "The columns are of different objects, and so are their means."
PICTURES = "'self' file: data:"  # a page that is a file has no server of its own


def page_html(
    columns: Sequence[Column], shown: Sequence[Exhibit], media: Media, *, title: str | None = None
) -> str:
    """The page; `media` has the pictures that `shown` names."""
    title = title or _title(columns)
    style = beside(__name__, "style.css")
    parts = [
        beginning(title=title, style=style, images=PICTURES, made_by=MADE_BY),
        f'<header>\n<p class="kind">Gallery</p>\n<h1>{escape(title)}</h1>\n',
        f"{_facts(columns, shown)}</header>\n",
        _summary(columns, shown),
        _controls(columns, shown),
        f'<section id="exhibits" style="--across:{len(columns) + 2}">\n',
        *(_exhibit(exhibit, columns, media) for exhibit in shown),
        "</section>\n",
        _dialog(),
        media.script(),
        ending(made_by=MADE_BY, script=beside(__name__, "page.js")),
    ]
    return "".join(parts)


def _title(columns: Sequence[Column]) -> str:
    return " / ".join(column.label for column in columns) if len(columns) < 4 else "Ways compared"


def _facts(columns: Sequence[Column], shown: Sequence[Exhibit]) -> str:
    films = [entry for column in columns for entry in column.entries.values()]
    facts = [plural(len(shown), "object"), plural(len(columns), "column"), plural(len(films), "film")]
    untrue = sum(bool(entry.untrue) for entry in films)
    if untrue:
        which = "no truth" if untrue == len(films) else f"no truth for {plural(untrue, 'film')}"
        facts.append(f"{which}: a data set has no pictures from these cameras, or none was given")
    most, shown_most = (max(count) for count in zip(*_lengths(shown), strict=True))
    facts += [f"{shown_most} of {most} views of a film"] if shown_most < most else []
    return f'<p class="state">{"".join(f"<span>{fact}</span>" for fact in facts)}</p>\n'


def _lengths(shown: Sequence[Exhibit]) -> list[tuple[int, int]]:
    """Of every film, its views and those that are shown."""
    return [(cell.total, len(cell.views)) for exhibit in shown for cell in exhibit.cells if cell]


def _cameras_differ(exhibit: Exhibit) -> bool:
    first, *others = (cell.entry.film for cell in exhibit.cells if cell)
    return not all(same_cameras(first, film) for film in others)


def _summary(columns: Sequence[Column], shown: Sequence[Exhibit]) -> str:
    """Means over the films of each column."""
    notes = [NOTE]
    notes += [CAMERAS_DIFFER] if any(map(_cameras_differ, shown)) else []
    notes += [OBJECTS_DIFFER] if len({frozenset(column.entries) for column in columns}) > 1 else []
    known = [key for key in MEASURES if any(key in e.figures for c in columns for e in c.entries.values())]
    head = "".join(
        f'<th scope="col">{MEASURES[key].name} <span class="unit">{MEASURES[key].unit}</span></th>'
        for key in known
    )
    rows = []
    for column in columns:
        made = f'<span class="made">{escape(column.made)}</span>' if column.made else ""
        found = [entry.figures for entry in column.entries.values()]
        means = (_mean([figures[key] for figures in found if key in figures], len(found)) for key in known)
        cells = "".join(f"<td>{cell}</td>" for cell in (len(found), *means))
        rows.append(f'<tr><th scope="row">{escape(column.label)}{made}</th>{cells}</tr>')
    return f"""<section id="figures"><h2>Figures</h2>
<p class="note">{" ".join(notes)}</p>
<div class="scroll"><table class="figures">
<thead><tr><th scope="col">column</th><th scope="col">films</th>{head}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div></section>
"""


def _mean(values: list[float], num_films: int) -> str:
    """The mean, and of how many films it is where that is not all."""
    fewer = 0 < len(values) < num_films
    return mean(values) + (f' <span class="unit">({plural(len(values), "film")})</span>' if fewer else "")


def _controls(columns: Sequence[Column], shown: Sequence[Exhibit]) -> str:
    options = ['<option value="">as given</option>', '<option value="name">name</option>']
    for index, column in enumerate(columns):
        behind = f", {escape(column.label)}" if len(columns) > 1 else ""
        options += [
            f'<option value="{key}.{index}" data-rising="{measure.rising is not False:d}">'
            f"{measure.name}{behind}</option>"
            for key, measure in MEASURES.items()
            if any(key in entry.figures for entry in column.entries.values())
        ]
    drawn = {kind for exhibit in shown for cell in exhibit.cells if cell for kind in cell.strips}
    checked = " checked" if len(columns) <= WIDE else ""
    boxes = "".join(
        f'<label><input type="checkbox" name="show" value="{kind}"{checked}> {name}</label>'
        for kind, name in SHOWN.items()
        if kind in drawn
    )
    return f"""<form id="controls" role="search" aria-label="objects" hidden>
<label class="search"><span>Filter</span><input type="search" name="filter" placeholder="name"></label>
<label><span>Sort by</span><select name="sort">{"".join(options)}</select></label>
<button type="button" name="turn" aria-pressed="false">Worst first</button>
<fieldset><legend>Show</legend>{boxes}
<label><input type="checkbox" name="show" value="stills" checked> Stills</label></fieldset>
<button type="button" name="play">Pause</button>
<output aria-live="polite"></output>
</form>
"""


def _exhibit(exhibit: Exhibit, columns: Sequence[Column], media: Media) -> str:
    cells = [cell for cell in exhibit.cells if cell]
    figures = {
        f"{key}.{index}": value
        for index, cell in enumerate(exhibit.cells)
        if cell
        for key, value in cell.entry.figures.items()
    }
    fps, count = min(cell.fps for cell in cells), max(len(cell.views) for cell in cells)
    slider = (
        f'<input type="range" min="0" max="{count - 1}" value="0" hidden '
        f'aria-label="view of {escape(exhibit.name)}">'
    )
    differ = f'<p class="note">{VIEWS_DIFFER}</p>\n' if _cameras_differ(exhibit) else ""
    tiles, stills, before = [], [], Shown()
    for column, cell in zip(columns, exhibit.cells, strict=True):
        if cell is None:
            tiles.append(f'<figure class="cell"><h4>{escape(column.label)}</h4><p>not drawn</p></figure>')
            continue
        tiles += _tiles(cell, column.label, exhibit.name, media, before)
        stills += _stills(cell, column.label if len(columns) > 1 else "", media, before)
    return f"""<article class="exhibit" data-name="{escape(exhibit.name)}" data-fps="{fps:.3g}" \
data-figures="{escape(json.dumps(figures))}">
<header><h3>{escape(exhibit.name)}</h3>{slider}<output></output></header>
{differ}<div class="cells">
{"".join(tiles)}</div>
<div class="scroll stills" tabindex="0" role="group" aria-label="views of {escape(exhibit.name)}"><table>
{"".join(stills)}</table></div>
</article>
"""


class Shown:
    """What was shown last of an object's input, truth and views, and stands for the cells after it."""

    def __init__(self):
        self._last: dict[str, object] = {}

    def stands(self, kind: str, what: object) -> bool:
        """Whether it was shown last of its kind; it is from now on."""
        known = self._last.get(kind) == what
        self._last[kind] = what
        return known


def _tiles(cell: Cell, label: str, name: str, media: Media, before: Shown) -> list[str]:
    """Input and truth, unless they were shown, and the films of a cell."""
    tiles = []
    for kind in ("input", "truth"):
        strip = cell.strips.get(kind)
        if strip is None or before.stands(kind, strip.name):
            continue
        about = f"{kind} of {name}"
        if kind == "truth":
            shown = _film(strip, about, media)
        else:
            shown = "".join(_frame(strip, about, media, at=place) for place in range(strip.count))
        head = f'<figure class="cell {kind}"><h4>{kind.capitalize()}</h4>'
        tiles.append(f'{head}<div class="many">{shown}</div></figure>\n')
    below = "".join(
        f'<figure class="of-{kind}">{_film(cell.strips[kind], f"{said} of {name}, {label}", media)}'
        f"<figcaption>{said}</figcaption></figure>"
        for kind, said in SHOWN.items()
        if kind in cell.strips
    )
    keep = f'<p><a href="{FOLDER}/{cell.mp4}" download>MP4</a></p>' if cell.mp4 else ""
    films = _film(cell.strips["sample"], f"sample of {name}, {label}", media)
    tiles.append(
        f'<figure class="cell"><h4>{escape(label)}</h4>{films}<div class="below">{below}</div>'
        f"{_figures(cell)}{keep}</figure>\n"
    )
    return tiles


def _figures(cell: Cell) -> str:
    rows = "".join(
        f"<div><dt>{MEASURES[key].name}</dt><dd>{number(value, 3, MEASURES[key].unit)}</dd></div>"
        for key, value in cell.entry.figures.items()
    )
    return f"<dl>{rows}</dl>" if rows else ""


def _stills(cell: Cell, label: str, media: Media, before: Shown) -> list[str]:
    """Rows of views that stand still: their numbers and the truth, unless they were shown, and the rest."""
    rows, views = [], tuple(cell.views[place] for place in cell.stills)
    if not before.stands("views", views):
        names = "".join(f'<th scope="col">view {view}</th>' for view in views)
        rows.append(f"<tr><td></td>{names}</tr>\n")
    for kind in ("truth", "sample", *SHOWN):
        strip = cell.strips.get(kind)
        if strip is None or (kind == "truth" and before.stands("still truth", strip.name)):
            continue
        said = SHOWN.get(kind, kind).capitalize()
        name = f"{label}: {said.lower()}" if label and kind != "truth" else said
        shown = "".join(
            f"<td>{_frame(strip, f'{name}, view {view}', media, at=place)}</td>"
            for view, place in zip(views, cell.stills, strict=True)
        )
        rows.append(f'<tr class="of-{kind}"><th scope="row">{escape(name)}</th>{shown}</tr>\n')
    return rows


def _film(strip: Strip, about: str, media: Media) -> str:
    """A strip that page.js moves; a button, because it can be enlarged."""
    return (
        f'<button type="button" class="film" aria-label="{escape(about)}">{_frame(strip, "", media)}</button>'
    )


def _frame(strip: Strip, about: str, media: Media, *, at: int = 0) -> str:
    """One frame of a strip: the window through which its picture is seen."""
    row, column = divmod(at, strip.columns)
    style = f"--w:{strip.width};--h:{strip.height};--c:{strip.columns};--r:{strip.rows}"
    style += f";--x:{column};--y:{row}" if at else ""
    size = f'width="{strip.columns * strip.width}" height="{strip.rows * strip.height}"'
    image = f'<img {media.source(strip.name)} {size} alt="{escape(about)}" loading="lazy" decoding="async">'
    return (
        f'<span class="frame" style="{style}" data-count="{strip.count}" data-columns="{strip.columns}">'
        f"{image}</span>"
    )


def _dialog() -> str:
    return """<dialog id="large" aria-labelledby="about">
<header><h3 id="about"></h3><button type="button" name="close">Close</button></header>
<div class="window"></div>
<footer><button type="button" name="previous">Previous</button><input type="range" min="0" value="0" \
aria-label="view"><output></output><button type="button" name="next">Next</button></footer>
</dialog>
"""
