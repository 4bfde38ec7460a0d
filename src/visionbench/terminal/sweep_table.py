"""The table of several runs: columns of what differs, then the numbers of each case, or of each run if many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from visionbench import variation
from visionbench.core import LOST, OK, PENDING, CaseResult, MetricDeclaration
from visionbench.records.record import FINISHED, UNSUCCESSFUL
from visionbench.results import summary
from visionbench.results.advice.candidates import headline
from visionbench.results.archive import Run
from visionbench.results.naming import Names
from visionbench.terminal import run_table
from visionbench.terminal.fitting import Column, fitted
from visionbench.terminal.marks import MARKS

MOST_ROWS = 40
"""The number of cases up to which each case has a row. With more cases, each run has one row."""
Row = tuple[Run, CaseResult | None]


def render(runs: Sequence[Run], names: Names, width: int) -> RenderableType:
    """Return what is equal in all runs, and the table of what differs, in at most `width` characters."""
    cases = [(run, row) for run in runs for row in run_table.shown_rows(run)]
    by_case = len(cases) <= MOST_ROWS
    columns = [
        *name_columns([run for run, _ in cases] if by_case else runs, names, without=("batch",) if by_case else ()),
        *(_case_columns(runs, cases) if by_case else run_columns(runs)),
    ]
    heading = [Text(text, style="bold")] if (text := equal_parts(runs, names)) else []
    note = [] if by_case else [Text(f"{len(runs)} runs, {len(cases)} cases: the best numbers of each run", style="dim")]
    return Group(*heading, fitted(columns, width, dim_repeats=True), *note)


def equal_parts(runs: Sequence[Run], names: Names) -> str:
    """Return the parts of the names that all runs share, such as `clip_tiny · cpu`."""
    base = variation.base_parts(runs[0].record.plan)
    return variation.joined(text for part, text in base.items() if part not in names.varying)


def name_columns(runs: Sequence[Run], names: Names, without: Sequence[str] = ()) -> list[Column]:
    """Return a column for each part of the names that differs, with a cell for each run of `runs`."""
    base = [variation.base_parts(run.record.plan) for run in runs]
    columns = [Column(part, [parts[part] for parts in base], number=False) for part in names.varying]
    values = [names.values(run) for run in runs]
    return columns + [
        Column(label, [each[label] for each in values], number=False) for label in names.columns if label not in without
    ]


def _case_columns(runs: Sequence[Run], cases: Sequence[tuple[Run, CaseResult]]) -> list[Column]:
    """Return the columns of the numbers of each case, and of its mark or its status."""
    columns = [Column("batch", [row.case.size if row.case.timed else "–" for _, row in cases])]
    columns += [
        Column(column.title, [run_table.cell(column, row, None) for _, row in cases], rank=column.rank)
        for column in run_table.timed_columns(runs)
    ]
    marks = [MARKS[row.validity.verdict] if row.status == OK else row.status for _, row in cases]
    of_runs = [run for run, _ in cases]
    others = [*_load_columns(of_runs), *_quality_columns(of_runs)]
    return [*columns, *others, Column("", marks, number=False, complete=True)]


def run_columns(runs: Sequence[Run]) -> list[Column]:
    """Return the columns of the best numbers of each run, and of its worst mark, its status and its failures."""
    best = [summary.best(run.results) for run in runs]
    throughputs = [summary.throughput_name(run.timed) for run in runs]
    units = {unit: summary.unit(unit).replace("images/", "img/") for unit in throughputs}
    speeds = [
        summary.text(numbers.get(f"best_{name}")) + ("" if len(units) == 1 else f" {units[name]}")
        for numbers, name in zip(best, throughputs, strict=True)
    ]
    unit = next(iter(units.values())) if len(units) == 1 else "throughput"
    sizes = [numbers.get("best_throughput_batch_size") for numbers in best]
    peaks = [next((n[f"highest_{m}"] for m in summary.MEMORY if f"highest_{m}" in n), None) for n in best]
    return [
        Column(f"best {unit}", speeds),
        Column("at batch", ["–" if size is None else f"{size:.0f}" for size in sizes]),
        Column("p50 ms", [summary.text(numbers.get("lowest_latency_p50_ms")) for numbers in best]),
        Column("peak MiB", ["–" if peak is None else f"{peak:,.0f}" for peak in peaks], rank=2),
        *_load_columns(runs),
        *_quality_columns(runs),
        Column("", [_outcome(run) for run in runs], number=False, complete=True),
    ]


def _outcome(run: Run) -> str:
    """Return the worst mark of a run, its status if it did not finish, and the number of its cases without numbers."""
    mark, status = MARKS.get(summary.verdict(run.results) or "", ""), run.record.status
    count = Counter(row.status for row in run.results)
    failures = len(summary.failures(run.results)) - count[LOST]
    numbers = {"failed": failures, "lost": count[LOST], "not measured yet": count[PENDING]}
    counts = ", ".join(f"{number} of {len(run.results)} {kind}" for kind, number in numbers.items() if number)
    unfinished = "" if status == FINISHED or (status in (UNSUCCESSFUL, LOST) and counts) else status
    return " ".join(filter(None, [mark, unfinished, counts]))


def _load_columns(runs: Sequence[Run]) -> list[Column]:
    """Return the figures of the search for the largest load of each run, with their mark."""
    each = (summary.load_figures(run.results, run.declarations) for run in runs)
    shown = dict.fromkeys(declaration for declarations in each for declaration in declarations)
    return [
        Column(
            declaration.heading(),
            [run_table.quality_cell(run_table.column(declaration), run.load_search) for run in runs],
            rank=run_table.RANK_OF_QUALITY,
        )
        for declaration in shown
    ]


def _quality_columns(runs: Sequence[Run]) -> list[Column]:
    """Return the quality of each run: its columns if all runs have the same, else the headline metric with its name."""
    metrics = dict.fromkeys(tuple(run_table.quality_columns(run)) for run in runs if run.quality)
    if len([columns for columns in metrics if columns]) == 1:
        return [
            Column(
                column.title,
                [run_table.quality_cell(column, run.quality) for run in runs],
                rank=column.rank,
            )
            for columns in metrics
            for column in columns
        ]
    headlines = [headline(run) for run in runs]
    cells = [_quality_text(run, *values) if values else "–" for run, values in zip(runs, headlines, strict=True)]
    return [Column("quality", cells, rank=run_table.RANK_OF_QUALITY)] if any(headlines) else []


def _quality_text(run: Run, declaration: MetricDeclaration, value: float) -> str:
    number = format(value, run_table.FORMS.get(declaration.unit, ".3f"))
    mark = MARKS[run.quality.validity.verdict] if run.quality else ""
    return f"{declaration.heading()} {number}{mark}"
