"""The output of a comparison: a table for a terminal, Markdown for a pull request, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from visionbench.results import summary
from visionbench.results.comparison import (
    IMPROVEMENTS,
    REGRESSIONS,
    SAME,
    UNDECIDED,
    Comparison,
    MetricComparison,
    Value,
)
from visionbench.terminal import table
from visionbench.terminal.table import MARKS

SCHEMA_VERSION = 1
"""The version of the JSON. It increases if a reader of the previous version would fail."""
STYLES = {
    **dict.fromkeys(REGRESSIONS, "bold red"),
    **dict.fromkeys(IMPROVEMENTS, "green"),
    **dict.fromkeys(UNDECIDED, "yellow"),
}
HEADINGS = ("batch", "metric", "base", "candidate", "ratio", "95 % interval", "verdict")
LEGEND = (
    "values: geometric means over processes; ratio: candidate ÷ base, for quality the difference with its sign; "
    f"{table.LEGEND}"
)


def closing_line(comparison: Comparison) -> str:
    """Return a line such as `regression: 1 slower, 5 same (latency_p50_ms of clip_tiny · cpu · fp32: 1.12×)`."""
    counted = ", ".join(f"{count} {verdict}" for verdict, count in comparison.counts.items())
    worst = [_regression_text(row) for row in comparison.regressions[:3]]
    more = [f"{len(comparison.regressions) - 3} more"] if len(comparison.regressions) > 3 else []
    return f"{comparison.verdict}: {counted}" + (f" ({'; '.join([*worst, *more])})" if worst else "")


def text(comparison: Comparison) -> RenderableType:
    """Return a table for each pair of runs, then the reasons and notes, then the summary."""
    parts: list[RenderableType] = []
    for run, rows in groupby(comparison.rows, lambda row: row.run):
        grid = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
        for heading in HEADINGS:
            left = heading in ("metric", "verdict")
            grid.add_column(heading, justify="left" if left else "right", no_wrap=not left, overflow="fold")
        for row in rows:
            batch, metric, *cells, verdict = _row_cells(row)
            words = Text(verdict, style=STYLES.get(verdict, ""))
            grid.add_row(batch, metric.removesuffix("_fraction"), *cells, words)
        parts += [Text(run, style="bold"), grid, Text()]
    dim = [LEGEND, *methods(comparison.rows), *reasons(comparison.rows), *comparison.notes]
    return Group(
        *parts, *(Text(line, style="dim") for line in dim), Text(), Text(closing_line(comparison), style="bold")
    )


def markdown(comparison: Comparison) -> str:
    """Return the summary, a table of the changed metrics, the unchanged metrics in a folded block, and the notes."""
    changed = [row for row in comparison.rows if row.verdict != SAME]
    same = [row for row in comparison.rows if row.verdict == SAME]
    folded = f"<details><summary>{len(same)} the same</summary>\n\n{_markdown(same)}\n\n</details>" if same else ""
    listed = "\n".join(
        f"- {_escaped(line)}" for line in [*methods(comparison.rows), *reasons(comparison.rows), *comparison.notes]
    )
    limits = (
        f"Threshold {comparison.rules.threshold:.1%}, for quality {comparison.rules.quality_threshold:.1%}. "
        f"{LEGEND[0].upper()}{LEGEND[1:]}."
    )
    parts = [f"**visionbench: {_escaped(closing_line(comparison))}**", _markdown(changed) if changed else "", folded]
    return "\n\n".join(filter(None, [*parts, limits, listed])) + "\n"


def json_text(comparison: Comparison) -> str:
    """Return the comparison as JSON, with the version of the schema."""
    content = {
        "schema": SCHEMA_VERSION,
        "verdict": comparison.verdict,
        "summary": closing_line(comparison),
        "rules": asdict(comparison.rules),
        "counts": dict(comparison.counts),
        "rows": [asdict(row) for row in comparison.rows],
        "notes": list(comparison.notes),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def reasons(rows: Sequence[MetricComparison]) -> Iterator[str]:
    """Yield each reason once, with its verdict and the number of rows."""
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.reason:
            counts[row.verdict, row.reason] = counts.get((row.verdict, row.reason), 0) + 1
    for (verdict, reason), count in counts.items():
        yield f"{verdict} ({count} row{'s' * (count > 1)}): {reason}"


def methods(rows: Sequence[MetricComparison]) -> Iterator[str]:
    """Yield each method of comparing quality once, with its metrics and their smallest detectable changes."""
    by_method: dict[str, list[str]] = {}
    for row in rows:
        if row.method:
            least = f" ({row.detectable:.3f})" if row.detectable is not None else ""
            by_method.setdefault(row.method, []).append(row.metric.removesuffix("_fraction") + least)
    for method, names in by_method.items():
        listed = ", ".join(dict.fromkeys(names))
        yield f"{method}: {listed}; the smallest detectable change is in parentheses"


def _row_cells(row: MetricComparison) -> list[str]:
    interval = f"{row.interval[0]:.3f}–{row.interval[1]:.3f}" if row.interval else "–"
    ratio = f"{row.ratio:.3f}" if row.ratio is not None else "–"
    if row.difference is not None and row.method:
        ratio = f"{row.difference:+.3f}"
        interval = " to ".join(f"{end:+.3f}" for end in row.difference_interval) if row.difference_interval else "–"
    batch = "–" if row.batch_size is None else str(row.batch_size)
    return [batch, row.metric or "–", _value(row.base), _value(row.candidate), ratio, interval, row.verdict]


def _value(value: Value) -> str:
    return summary.text(value.value) + (MARKS[value.validity] if value.value is not None else "")


def _markdown(rows: Sequence[MetricComparison]) -> str:
    lines = [["run", *HEADINGS], ["---", "---:", "---", "---:", "---:", "---:", "---:", "---"]]
    lines += [[row.run, *_row_cells(row)] for row in rows]
    return "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _regression_text(row: MetricComparison) -> str:
    place = f"{row.run} at batch {row.batch_size}" if row.batch_size is not None else row.run
    if not row.metric:
        return f"{place} {row.verdict}"
    if row.ratio is not None and "_fraction" not in row.metric:
        return f"{row.metric} of {place}: {row.ratio:.3f}×"
    return f"{row.metric} of {place}: {summary.text(row.base.value)} → {summary.text(row.candidate.value)}"
