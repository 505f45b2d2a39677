"""The page: one HTML file that needs nothing else."""

from collections.abc import Sequence
from itertools import groupby

from scripts.common.html.document import beginning, beside, ending
from scripts.common.html.wording import count, day, duration, escape, megabytes, number
from scripts.report.chart import chart_html
from scripts.report.curves import charts_of
from scripts.report.previews import Film, Frame, make_film
from scripts.report.run_data import Run
from scripts.report.summary import PREVIEW, SAMPLE, images_per_second, recent, seconds_per_step
from scripts.report.tables import config_html, table_html

SPARE = 4096  # bytes for what is said of pictures
LISTED = 20  # problems that the page names; of more, their number


def page_html(
    run: Run, *, most: int, now: float | None = None, refresh: float | None = None
) -> tuple[str, Film]:
    """The page in at most `most` bytes of UTF-8, and the pictures on it.

    `now` is in seconds since 1970; a browser loads the page anew every `refresh` seconds. Raises ValueError
    where it would be too large even without pictures.
    """
    before, after = _before_pictures(run, now, refresh), _after_pictures(run)
    bare = len((before + after + _problems(run.problems)).encode()) + SPARE
    if bare > most:
        raise ValueError(
            f"--max-mb {most / 1e6:g}: the page takes {megabytes(bare)} without pictures; allow more"
        )
    film = make_film(run, most - bare)
    problems = _problems([*run.problems, *film.problems])
    return before + _pictures(film) + after.replace("<!--problems-->", problems), film


def _before_pictures(run: Run, now: float | None, refresh: float | None) -> str:
    state = run.state(now)
    head = beginning(title=f"{run.name}: {state}", style=beside(__name__, "style.css"), refresh=refresh)
    return f"""{head}<header class="{state.split()[0]}">
{_title(run, state)}
</header>
{_headline(run)}
"""


def _after_pictures(run: Run) -> str:
    parts = [_curves(run), table_html(run), _warnings(run), config_html(run), "<!--problems-->"]
    end = ending(made_by="scripts.report", script=beside(__name__, "page.js"))
    return "\n".join([*filter(None, parts), end])


def _title(run: Run, state: str) -> str:
    kind = f"Recipe of {len(run.stages)} stages" if run.recipe else "Training run"
    unknown = any(stage.planned is None for stage in run.stages)
    of = "" if state == "finished" or unknown else f" of {run.steps:,}"
    facts = [f"step {run.step:,}{of}" if state != "finished" else f"{run.step:,} steps"]
    if run.recipe and state != "finished":
        facts.append(f"in stage {escape(run.current.label)}")
    facts += [f"{duration(run.seconds)} of training"] if run.seconds else []
    facts += [day(run.written)] if run.written else []
    num = len(run.warnings)
    facts += [f'<a href="#warnings">{num} warning{"s" if num > 1 else ""}</a>'] if num else []
    lines = [f'<p class="kind">{kind}</p>', f"<h1>{escape(run.name)}</h1>"]
    said = "".join(f"<span>{fact}</span>" for fact in facts)
    lines.append(f'<p class="state"><strong>{state}</strong>{said}</p>')
    if of and run.steps:
        lines.append(f'<div class="progress"><i style="width:{run.step / run.steps:.1%}"></i></div>')
    return "\n".join(lines)


def _headline(run: Run) -> str:
    tiles = []
    for name, key in (("Sample PSNR, held out", SAMPLE), ("Preview PSNR, held out", PREVIEW)):
        found = recent(run, key)
        if found:
            stage, one = found
            best = f"best {number(one.best)} at step {stage.start + one.best_step:,}"
            tiles.append((name, number(one.last, unit="dB"), best))
    loss = recent(run, "loss")
    if loss:
        stage, one = loss
        whence = f"in {escape(stage.label)}, from" if run.recipe else "from"
        tiles.append(("Loss", number(one.last), f"{whence} {number(one.first)}"))
    seconds, rate = seconds_per_step(run.current), images_per_second(run.current)
    if seconds is not None:
        per_second = f"{number(rate[1], 3)} {rate[0]} a second" if rate else ""
        tiles.append(("Time of a step", number(seconds, 3, "s"), per_second))
    parameters = next((stage.parameters for stage in reversed(run.stages) if stage.parameters), None)
    if parameters:
        total, parts = (
            sum(parameters.values()),
            [f"{escape(name)} {count(num)}" for name, num in parameters.items()],
        )
        tiles.append(("Parameters", f'<data value="{total}">{count(total)}</data>', ", ".join(parts)))
    rows = (
        f"<div><dt>{name}</dt><dd><b>{value}</b><span>{more}</span></dd></div>" for name, value, more in tiles
    )
    return f'<dl class="headline">{"".join(rows)}</dl>' if tiles else ""


def _pictures(film: Film) -> str:
    remarks = "".join(f'<p class="note">{escape(remark)}</p>' for remark in film.remarks)
    if film.large is None:
        return f'<section id="pictures"><h2>Held-out views</h2>{remarks}</section>\n' if remarks else ""
    large, frames = film.large, ""
    labels = "".join(f"<span>{name}</span>" for name in large.columns)
    columns = f'<div class="columns" aria-hidden="true">{labels}</div>' if labels else ""
    if len(film.frames) > 1:
        items = "\n".join(_film_item(frame) for frame in film.frames)
        frames = f"""<div class="player" hidden><button type="button">Play</button>
<input type="range" min="0" value="0" aria-label="step of the picture"><output></output></div>
<ol class="film" tabindex="0" aria-label="the same views at every interval">
{items}
</ol>
"""
    return f"""<section id="pictures">
<h2>Held-out views</h2>
<p class="note">The same views, never trained on, drawn with the averaged weights.</p>
<figure class="hero">
{columns}<img src="{large.uri}" width="{large.width}" height="{large.height}" alt="{_alt(large)}">
<figcaption>{_caption(large)}</figcaption>
</figure>
{frames}{remarks}</section>
"""


def _film_item(frame: Frame) -> str:
    stage = f"<small>{escape(frame.stage)}</small>" if frame.stage else ""
    return (
        f'<li data-caption="{_caption(frame)}"><img src="{frame.uri}" width="{frame.width}" '
        f'height="{frame.height}" alt="{_alt(frame)}"><span>step {frame.step:,}</span>{stage}</li>'
    )


def _caption(frame: Frame) -> str:
    return f"Step {frame.step:,}" + (f", stage {escape(frame.stage)}" if frame.stage else "")


def _alt(frame: Frame) -> str:
    shown = f": {', '.join(frame.columns)}, a row for each view" if frame.columns else ""
    return f"held-out views at step {frame.step:,}{shown}"


def _curves(run: Run) -> str:
    charts = charts_of(run)
    if not charts:
        return '<section id="curves"><h2>Curves</h2><p class="note">Nothing was logged yet.</p></section>'
    through = ", counted through all stages" if run.recipe else ""
    note = (
        f"Over training steps{through}. Pale dots are logged values, lines are running means of them; "
        "the number beside a name is its last value. Of a long log every stretch shows its least and "
        "greatest value."
    )
    parts = ['<section id="curves">', "<h2>Curves</h2>", f'<p class="note">{note}</p>']
    for heading, group in groupby(charts, key=lambda chart: chart.heading):
        drawn = "\n".join(chart_html(chart, run) for chart in group)
        parts.append(f'<h3>{heading}</h3>\n<div class="charts">\n{drawn}\n</div>')
    return "\n".join([*parts, "</section>"])


def _warnings(run: Run) -> str:
    rows = "\n".join(
        f'<tr id="warning-{index}"><td>{index}</td><td>{step:,}</td><td class="text">{escape(text)}</td></tr>'
        for index, (step, text) in enumerate(run.warnings, 1)
    )
    if not rows:
        return ""
    names = '<th scope="col"></th><th scope="col">step</th><th scope="col" class="left">what was said</th>'
    return (
        f'<section id="warnings"><h2>Warnings</h2><div class="scroll"><table><thead><tr>{names}</tr></thead>'
        f"<tbody>\n{rows}\n</tbody></table></div></section>"
    )


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    lines = "".join(f"<li>{escape(problem)}</li>" for problem in problems[:LISTED])
    if len(problems) > LISTED:
        lines += (
            f"<li>and {len(problems) - LISTED:,} more, which the program told when it made this page</li>"
        )
    return (
        f'<section id="problems"><h2>What could not be read</h2><ul class="problems">{lines}</ul></section>'
    )
