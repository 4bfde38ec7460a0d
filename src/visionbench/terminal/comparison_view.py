"""The output of a comparison: a table for a terminal, Markdown for a pull request, JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from visionbench.results import markdown as markdown_text
from visionbench.results import summary
from visionbench.results.comparison import (
    IMPROVEMENTS,
    ONLY_IN_BASE,
    ONLY_IN_CANDIDATE,
    ORDER,
    REGRESSIONS,
    SAME,
    UNDECIDED,
    Comparison,
    MetricComparison,
    Value,
)
from visionbench.results.gate import Outcome
from visionbench.terminal import marks
from visionbench.terminal.marks import MARKS

SCHEMA_VERSION = 1
"""The version of the JSON. It increases if a reader of the previous version would fail."""
STYLES = {
    **dict.fromkeys(REGRESSIONS, "bold red"),
    **dict.fromkeys(IMPROVEMENTS, "green"),
    **dict.fromkeys(UNDECIDED, "yellow"),
}
MOST_RUNS = 40
"""The most runs with a table of their own: those with the worst verdicts. `verbose` shows all."""
MOST_NAMES = 3
"""The most runs of one side only that are named."""
HEADINGS = ("batch", "metric", "base", "candidate", "ratio", "95 % interval", "verdict")
INTERVAL, VERDICT = HEADINGS.index("95 % interval"), HEADINGS.index("verdict")
LEGEND = (
    "values: geometric means over processes; ratio: candidate ÷ base, for quality the difference with its sign; "
    f"{marks.LEGEND}"
)


def closing_line(comparison: Comparison) -> str:
    """Return a line such as `regression: 1 slower, 5 same (latency_p50_ms of clip_tiny · cpu · fp32: 1.12×)`."""
    counted = ", ".join(f"{count} {verdict}" for verdict, count in comparison.counts.items())
    worst = [_regression_text(row) for row in comparison.regressions[:3]]
    more = [f"{len(comparison.regressions) - 3} more"] if len(comparison.regressions) > 3 else []
    return f"{comparison.verdict}: {counted}" + (f" ({'; '.join([*worst, *more])})" if worst else "")


def show(comparison: Comparison, outcome: Outcome, console: Console, verbose: bool = False) -> None:
    """Print the comparison. The last line, which is not broken, has the exit code and its meaning."""
    console.print(text(comparison, console.width, verbose), highlight=False)
    console.print(Text(str(outcome), style="bold"), soft_wrap=True)


def text(comparison: Comparison, width: int, verbose: bool = False) -> RenderableType:
    """Return a table for each pair of runs, then the reasons and notes, and the summary.

    In a narrow terminal the tables have no interval, or become lists, so that no number is cut.
    """
    paired = _paired_runs(comparison)
    rows = [row for row in comparison.rows if not row.unpaired or row.run in paired]
    groups = [(run, list(rows_of_run)) for run, rows_of_run in groupby(rows, lambda row: row.run)]
    drawn = groups if verbose else _worst(groups)
    draw, remark = _layout([row for _, rows_of_run in drawn for row in rows_of_run], width)
    parts: list[RenderableType] = []
    for run, rows_of_run in drawn:
        parts += [Text(run, style="bold"), draw(rows_of_run), Text()]
    if len(drawn) < len(groups):
        parts.append(
            Text(
                f"{len(drawn)} of {len(groups)} runs are shown, those with the worst verdicts; "
                "--verbose and --format json have all",
                style="dim",
            )
        )
    dim = [LEGEND, *filter(None, [remark]), *methods(rows), *reasons(rows, verbose), *_notes(comparison, verbose)]
    summary_line = Text(closing_line(comparison), style="bold")
    return Group(*parts, *(Text(line, style="dim") for line in dim), Text(), summary_line)


def _worst(groups: Sequence[tuple[str, list[MetricComparison]]]) -> Sequence[tuple[str, list[MetricComparison]]]:
    """Return the runs with the worst verdicts, at most MOST_RUNS of them, in their order."""
    ranks = [min(ORDER.index(row.verdict) for row in rows) for _, rows in groups]
    worst = set(sorted(range(len(groups)), key=ranks.__getitem__)[:MOST_RUNS])
    return [group for number, group in enumerate(groups) if number in worst]


def _paired_runs(comparison: Comparison) -> set[str]:
    """Return the names of the runs that both sides have."""
    return {row.run for row in comparison.rows if not row.unpaired}


def _layout(
    rows: Sequence[MetricComparison], width: int
) -> tuple[Callable[[list[MetricComparison]], RenderableType], str]:
    """Return the function that draws the rows of a run within a width, and a remark if columns are left out."""
    cells = [list(HEADINGS), *map(_terminal_cells, rows)]
    widths = [max(cell_len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    without = sum(widths) - widths[INTERVAL] + len(HEADINGS) - 2
    if without + widths[INTERVAL] + 1 <= width:
        return (lambda part: _grid(part, widths, range(len(HEADINGS)))), ""
    if without <= width:
        shown = [column for column in range(len(HEADINGS)) if column != INTERVAL]
        remark = "the intervals do not fit this width; --format json has them"
        return (lambda part: _grid(part, widths, shown)), remark
    return _list, ""


def _grid(rows: Sequence[MetricComparison], widths: Sequence[int], shown: Iterable[int]) -> Table:
    """Return a table of these columns. The widths are equal for all runs."""
    grid = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    columns = list(shown)
    for column in columns:
        left = HEADINGS[column] in ("metric", "verdict")
        grid.add_column(HEADINGS[column], justify="left" if left else "right", no_wrap=True, width=widths[column])
    for row in rows:
        cells = _terminal_cells(row)
        grid.add_row(*(Text(cells[column], style=_style(row) if column == VERDICT else "") for column in columns))
    return grid


def _list(rows: Sequence[MetricComparison]) -> Group:
    """Return two lines for each row: the metric with its verdict, and the numbers."""
    lines = []
    for row in rows:
        batch, metric, base, candidate, ratio, interval, verdict = _terminal_cells(row)
        place = row.case if row.batch_size is None else f"batch {batch}"
        lines.append(Text.assemble(f"  {place}, {metric}: " if row.metric else f"  {place}: ", (verdict, _style(row))))
        if row.metric:
            between = f" ({interval})" if interval != "–" else ""
            change = "difference" if row.difference is not None and row.method else "ratio"
            lines.append(Text(f"    {base} → {candidate}, {change} {ratio}{between}"))
    return Group(*lines)


def _style(row: MetricComparison) -> str:
    return STYLES.get(row.verdict, "")


def _notes(comparison: Comparison, verbose: bool) -> Iterator[str]:
    """Yield the notes, and a line for the runs that only one side has."""
    paired = _paired_runs(comparison)
    for verdict in (ONLY_IN_BASE, ONLY_IN_CANDIDATE):
        counts = Counter(row.run for row in comparison.rows if row.verdict == verdict and row.run not in paired)
        if not counts:
            continue
        names = list(counts) if verbose or len(counts) <= MOST_NAMES else []
        total = sum(counts.values())
        line = f"{verdict}: {total} case{'s' * (total > 1)} of {len(counts)} run{'s' * (len(counts) > 1)}"
        yield ", ".join([f"{line} ({'; '.join(names)})" if names else f"{line} (--verbose lists them)", "not compared"])
    for row in comparison.rows if verbose else ():
        for one in row.different:
            yield f"{row.run}, {one.condition}: {one.base} in the base, {one.candidate} in the candidate"
    yield from comparison.notes


def markdown(comparison: Comparison, outcome: Outcome, verbose: bool = False) -> str:
    """Return the summary, a table of the changed metrics, the unchanged metrics in a folded block, and the notes.

    The last line has the exit code and its meaning.
    """
    paired = _paired_runs(comparison)
    changed = [row for row in comparison.rows if row.verdict != SAME and row.run in paired]
    same = [row for row in comparison.rows if row.verdict == SAME]
    folded = f"<details><summary>{len(same)} the same</summary>\n\n{_markdown(same)}\n\n</details>" if same else ""
    notes = [*methods(comparison.rows), *reasons(comparison.rows, verbose), *_notes(comparison, verbose)]
    listed = "\n".join(f"- {markdown_text.item(line)}" for line in notes)
    limits = (
        f"Threshold {comparison.rules.threshold:.1%}, for quality {comparison.rules.quality_threshold:.1%}. "
        f"{LEGEND[0].upper()}{LEGEND[1:]}."
    )
    parts = [
        f"**visionbench: {markdown_text.escaped(closing_line(comparison))}**",
        _markdown(changed) if changed else "",
        folded,
    ]
    return "\n\n".join(filter(None, [*parts, limits, listed, f"**{markdown_text.escaped(str(outcome))}**"])) + "\n"


def json_text(comparison: Comparison, outcome: Outcome) -> str:
    """Return the comparison as JSON, with the version of the schema.

    The last keys are the exit code and its meaning.
    """
    content = {
        "schema": SCHEMA_VERSION,
        "verdict": comparison.verdict,
        "summary": closing_line(comparison),
        "rules": asdict(comparison.rules),
        "counts": dict(comparison.counts),
        "rows": [asdict(row) for row in comparison.rows],
        "notes": list(comparison.notes),
        "open_questions": [{"run": run, "question": question} for run, question in comparison.open_questions],
        "exit_code": outcome.exit_code,
        "outcome": str(outcome),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def reasons(rows: Sequence[MetricComparison], verbose: bool = False) -> Iterator[str]:
    """Yield each reason once, with its verdict and the number of rows; without the numbers of a row unless verbose."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row.reason:
            counts[row.verdict, row.reason if verbose else row.cause or row.reason] += 1
    for (verdict, reason), count in counts.most_common():
        yield f"{verdict} ({count} row{'s' * (count > 1)}): {reason}"


def methods(rows: Sequence[MetricComparison]) -> Iterator[str]:
    """Yield each method of comparing quality once, with its metrics and their smallest detectable changes."""
    by_method: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.method:
            least = by_method.setdefault(row.method, {}).setdefault(row.metric.removesuffix("_fraction"), [])
            least += [row.detectable] if row.detectable is not None else []
    for method, changes in by_method.items():
        listed = ", ".join(name + _range(least) for name, least in changes.items())
        shown = "; the smallest detectable change is in parentheses" if any(changes.values()) else ""
        yield f"{method}: {listed}{shown}"


def _range(values: Sequence[float]) -> str:
    """Return the smallest and the largest value in parentheses, or an empty text if there are none."""
    return f" ({'–'.join(dict.fromkeys((f'{min(values):.3f}', f'{max(values):.3f}')))})" if values else ""


def _row_cells(row: MetricComparison) -> list[str]:
    interval = f"{row.interval[0]:.3f}–{row.interval[1]:.3f}" if row.interval else "–"
    ratio = f"{row.ratio:.3f}" if row.ratio is not None else "–"
    if row.difference is not None and row.method:
        ratio = f"{row.difference:+.3f}"
        interval = " to ".join(f"{end:+.3f}" for end in row.difference_interval) if row.difference_interval else "–"
    batch = _place(row)
    return [batch, row.metric or "–", _value(row.base), _value(row.candidate), ratio, interval, row.verdict]


def _place(row: MetricComparison) -> str:
    """Return the batch size, the load as in `load-12.5`, or a dash for quality."""
    if row.batch_size is not None:
        return str(row.batch_size)
    return "–" if row.case in ("quality", "all") else row.case


def _terminal_cells(row: MetricComparison) -> list[str]:
    batch, metric, *rest = _row_cells(row)
    return [batch, metric.removesuffix("_fraction"), *rest]


def _value(value: Value) -> str:
    return summary.text(value.value) + (MARKS[value.validity] if value.value is not None else "")


def _markdown(rows: Sequence[MetricComparison]) -> str:
    lines = [["run", *HEADINGS], ["---", "---:", "---", "---:", "---:", "---:", "---:", "---"]]
    lines += [[row.run, *_row_cells(row)] for row in rows]
    return "\n".join(f"| {' | '.join(markdown_text.escaped(cell) for cell in line)} |" for line in lines)


def _regression_text(row: MetricComparison) -> str:
    place = f"{row.run} at batch {row.batch_size}" if row.batch_size is not None else row.run
    if not row.metric:
        return f"{place} {row.verdict}"
    if row.ratio is not None and "_fraction" not in row.metric:
        return f"{row.metric} of {place}: {row.ratio:.3f}×"
    return f"{row.metric} of {place}: {summary.text(row.base.value)} → {summary.text(row.candidate.value)}"
