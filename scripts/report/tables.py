"""The table of figures, and the config."""

from scripts.common.html.wording import duration, escape, number
from scripts.report.run_data import Run, Stage
from scripts.report.summary import PREVIEW, SAMPLE, course, differences, seconds_per_step, whole

HEAD = """<thead>
<tr><th scope="col" rowspan="2" class="left">{first}</th><th scope="col" rowspan="2">steps</th>
<th scope="col" rowspan="2">time</th><th scope="col" rowspan="2">a step</th>
<th scope="col" rowspan="2">pixels</th>
<th colspan="2" scope="colgroup">loss</th><th colspan="2" scope="colgroup">preview PSNR, dB</th>
<th colspan="2" scope="colgroup">sample PSNR, dB</th></tr>
<tr><th scope="col" class="under">first</th><th scope="col" class="under">last</th>
<th scope="col" class="under">last</th><th scope="col" class="under">best</th>
<th scope="col" class="under">last</th><th scope="col" class="under">best</th></tr>
</thead>"""


def table_html(run: Run) -> str:
    """A row for each stage."""
    rows = "\n".join(_row(stage) for stage in run.stages)
    foot = ""
    if len(run.stages) > 1:
        foot = (
            f'<tfoot><tr><th scope="row">all</th><td>{run.step:,}</td><td>{_time(run.seconds)}</td>'
            '<td colspan="8"></td></tr></tfoot>'
        )
    head = HEAD.format(first="stage" if run.recipe else "run")
    return (
        '<section id="figures"><h2>Figures</h2>'
        '<div class="scroll" tabindex="0" role="region" aria-label="table of figures">'
        f'<table class="figures">{head}\n<tbody>\n{rows}\n</tbody>{foot}</table></div></section>'
    )


def config_html(run: Run) -> str:
    """What every stage does otherwise than the one before, and all of it, folded."""
    parts = ['<section id="config">', "<h2>Config</h2>"]
    before = None
    for stage in run.stages:
        if not stage.config:
            continue
        if run.recipe:
            parts.append(f"<h3>{escape(stage.label)}</h3>")
        if before is not None:
            parts.append(_changes(before, stage))
        parts.append(
            f"<details><summary>{'whole config' if run.recipe else 'config.json'}</summary>"
            f"<pre><code>{escape(whole(stage.config))}</code></pre></details>"
        )
        before = stage
    return "\n".join([*parts, "</section>"]) if before else ""


def _changes(before: Stage, stage: Stage) -> str:
    changed = differences(before.config, stage.config)
    changed.pop("name", None)
    rows = "".join(
        f"<tr><td><code>{escape(key)}</code></td><td><code>{escape(old)}</code></td>"
        f"<td><code>{escape(new)}</code></td></tr>"
        for key, (old, new) in changed.items()
    )
    heads = ("key", escape(before.label), escape(stage.label))
    head = "".join(f'<th scope="col" class="left">{name}</th>' for name in heads)
    table = f'<table class="changes"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _row(stage: Stage) -> str:
    loss, preview, sample = (course(stage, key) for key in ("loss", PREVIEW, SAMPLE))
    pixels = stage.setting("data.image_size")
    steps = f"{stage.step:,}" + ("" if stage.finished or stage.planned is None else f" of {stage.planned:,}")
    cells = [
        steps if stage.begun else f"0 of {stage.steps:,}" if stage.steps else number(None),
        _time(stage.seconds),
        number(seconds_per_step(stage), 3, "s"),
        f"{pixels}" if isinstance(pixels, int) else number(None),
        *(
            number(value)
            for value in (loss.first, loss.last, preview.last, preview.best, sample.last, sample.best)
        ),
    ]
    return (
        f'<tr><th scope="row">{escape(stage.label)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    )


def _time(seconds: float) -> str:
    return f'<data value="{seconds!r}">{duration(seconds)}</data>' if seconds else number(None)
