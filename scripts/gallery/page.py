"""Render the page: results of all methods side by side for every object, and means of the figures."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from scripts.common.html.document import templates
from scripts.common.results import mean
from scripts.common.wording import plural
from scripts.gallery.assets import FOLDER, MADE_BY, Assets
from scripts.gallery.methods import MEASURES, Method
from scripts.gallery.sprite_sheets import GalleryItem
from scripts.sampling.reader import same_cameras

SHOWN = {  # the KINDS that are shown below the samples, with their names
    "preview": "Preview",
    "depth": "Depth",
    "mean": "Mean of samples",
    "spread": "Spread of samples",
}
WIDE = 2  # methods; with more, initially only the samples are shown


def page_html(
    methods: Sequence[Method], items: Sequence[GalleryItem], assets: Assets, *, title: str | None = None
) -> str:
    """The page as HTML; `assets` has the images of `items`."""
    labels = " / ".join(method.label for method in methods)
    entries = [entry for method in methods for entry in method.entries.values()]
    results = [result for item in items for result in item.results if result]
    content = {
        "title": title or (labels if len(methods) < 4 else "Ways compared"),
        "program": MADE_BY,
        "refresh": None,
        "folder": FOLDER,
        "assets": assets,
        "kinds": SHOWN,
        "still_kinds": {"sample": "Sample"} | SHOWN,
        "drawn": {kind for result in results for kind in result.sheets},
        "wide": len(methods) > WIDE,
        "methods": methods,
        "num_sequences": len(entries),
        "num_untrue": sum(bool(entry.untrue) for entry in entries),
        "longest": max(result.total for result in results),
        "longest_shown": max(len(result.views) for result in results),
        "measures": MEASURES,
        "known": [key for key in MEASURES if any(key in entry.figures for entry in entries)],
        "rows": [(method, _means(method)) for method in methods],
        "sortings": _sortings(methods),
        "objects_differ": len({frozenset(method.entries) for method in methods}) > 1,
        "items": [_item(item, methods) for item in items],
    }
    return templates(Path(__file__).parent).get_template("gallery.html.j2").render(content)


def _means(method: Method) -> dict[str, tuple[str, str]]:
    """Mean of every figure over a method's objects, and the number of objects if it is not all of them."""
    found = {}
    for key in MEASURES:
        values = [entry.figures[key] for entry in method.entries.values() if key in entry.figures]
        fewer = 0 < len(values) < len(method.entries)
        found[key] = (mean(values), plural(len(values), "sequence") if fewer else "")
    return found


def _sortings(methods: Sequence[Method]) -> list[tuple[str, str, int]]:
    """(key, name, 1 if higher is better) of every figure by which objects can be sorted."""
    return [
        (
            f"{key}.{index}",
            f"{measure.name}, {method.label}" if len(methods) > 1 else measure.name,
            int(measure.rising is not False),
        )
        for index, method in enumerate(methods)
        for key, measure in MEASURES.items()
        if any(key in entry.figures for entry in method.entries.values())
    ]


def _item(item: GalleryItem, methods: Sequence[Method]) -> dict[str, Any]:
    """An object's data for the template."""
    results = [result for result in item.results if result]
    first, *others = (result.entry.sequence for result in results)
    sheets = [result.sheets if result else {} for result in item.results]
    return {
        "name": item.name,
        "fps": min(result.fps for result in results),
        "count": max(len(result.views) for result in results),
        "cameras_differ": not all(same_cameras(first, sequence) for sequence in others),
        "figures": {
            f"{key}.{index}": value
            for index, result in enumerate(item.results)
            if result
            for key, value in result.entry.figures.items()
        },
        # Consecutive methods that share input, truth or view numbers show them once.
        "rows": list(
            zip(
                methods,
                item.results,
                _changes([own["input"].name if "input" in own else None for own in sheets]),
                _changes([own["truth"].name if "truth" in own else None for own in sheets]),
                _changes([tuple(r.views[place] for place in r.stills) if r else None for r in item.results]),
                strict=True,
            )
        ),
    }


def _changes(values: Sequence[Hashable | None]) -> list[bool]:
    """Whether each value differs from the previous one that is not None."""
    last, changed = None, []
    for value in values:
        changed.append(value is not None and value != last)
        last = last if value is None else value
    return changed
