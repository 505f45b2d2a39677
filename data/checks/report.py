"""Write findings as a table, a Markdown report and JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from data.checks.check_object import Summary
from data.checks.cross_object import by_split
from data.checks.findings import CHECKS, SEVERITIES, Finding
from data.files import write_text_whole

NUM_EXAMPLES = 2
COLUMNS = ("check", "severity", "objects", "views", "first examples")


def table(findings: Sequence[Finding]) -> list[str]:
    """Return a line for each kind of finding, most severe first, with the first files."""
    rows = [COLUMNS, *_rows(findings)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS) - 1)]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]


def counts_of(summaries: Sequence[Summary]) -> list[str]:
    """Return a line for each split: objects, views, sizes."""
    lines = []
    for split, group in by_split(summaries).items():
        views = Counter(summary.stored for summary in group if summary.stored)
        sizes = Counter(summary.size for summary in group if summary.size)
        spread = ", ".join(f"{number} x {count} views" for count, number in views.most_common(3))
        pixels = ", ".join(f"{width} x {height}" for (height, width), _ in sizes.most_common(3))
        more = " and other counts" if len(views) > 3 else ""
        read = sum(summary.num_read for summary in group)
        lines.append(
            f"{split}: {len(group)} objects ({spread}{more}), {pixels or 'no'} pixels, {read} views read"
        )
    return lines


def totals(findings: Sequence[Finding]) -> str:
    """Return the number of findings of each severity."""
    number = Counter(finding.severity for finding in findings)
    return ", ".join(
        f"{number[severity]} {severity}{'s' * (number[severity] != 1)}" for severity in SEVERITIES
    )


def write_reports(
    folder: Path, root: Path, summaries: Sequence[Summary], findings: Sequence[Finding]
) -> None:
    """Write REPORT.md and report.json with all findings. Raises ValueError if that fails."""
    document = {
        "root": str(root),
        "objects": {split: len(group) for split, group in by_split(summaries).items()},
        "views": {split: sum(s.stored for s in group) for split, group in by_split(summaries).items()},
        "findings": [asdict(finding) for finding in findings],
    }
    write_text_whole(folder / "report.json", json.dumps(document, indent=1) + "\n")
    write_text_whole(folder / "REPORT.md", _document(root, summaries, findings))


def _rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    rows = []
    for severity in SEVERITIES:
        for check in CHECKS:
            found = [f for f in findings if (f.check, f.severity) == (check, severity)]
            if found:
                objects = {(f.split, f.object_id) for f in found if f.object_id}
                views = sum(f.view is not None for f in found)
                more = f" (and {len(found) - NUM_EXAMPLES} more)" if len(found) > NUM_EXAMPLES else ""
                examples = "; ".join(_example(finding) for finding in found[:NUM_EXAMPLES])
                rows.append((check, severity, str(len(objects)), str(views or "-"), examples + more))
    return rows


def _example(finding: Finding) -> str:
    # Messages of the layouts already start with the place.
    if finding.message.startswith(finding.place):
        return finding.message
    return f"{finding.place}: {finding.message}"


def _document(root: Path, summaries: Sequence[Summary], findings: Sequence[Finding]) -> str:
    lines = [
        f"# Check of {root}",
        "",
        f"{totals(findings)}.",
        "",
        *(f"* {line}" for line in counts_of(summaries)),
    ]
    lines += ["", "Camera positions: `cameras.png`. Objects: `objects.png` (red: errors, orange: warnings)."]
    for severity in SEVERITIES:
        for check, promise in CHECKS.items():
            found = [f for f in findings if (f.check, f.severity) == (check, severity)]
            if found:
                lines += ["", f"## {severity}: {check}", "", f"Expected: {promise}.", ""]
                lines += [f"* {_example(finding)}" for finding in found]
    lines += ["", "## Without errors and warnings", ""]
    marked = {finding.check for finding in findings if finding.severity != "note"}
    lines += [f"* {check}: {promise}" for check, promise in CHECKS.items() if check not in marked]
    return "\n".join(lines) + "\n"
