"""The table of one run: a row for each case with its mark, then quality intervals, pipeline steps, and loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.text import Text

from visionbench.core import OK, PIPELINE_STEPS, SERVING, CaseResult, MetricDeclaration
from visionbench.results import declared, summary
from visionbench.results.archive import Run
from visionbench.statistics.resampling import interval_text, value_with_interval
from visionbench.terminal.fitting import Column, fitted
from visionbench.terminal.marks import MARKS


@dataclass(frozen=True)
class MetricColumn:
    """A column: its heading, its metrics, and the format of values. The first metric with a value is shown."""

    title: str
    names: tuple[str, ...]
    format_spec: str = ""
    """A format specification of Python, such as `.1f`; four significant digits if it is empty."""
    of_run: bool = False
    """Whether only the runs that have the metric have the column."""
    rank: int = 0
    """Columns with the highest rank are left out first if the table is too wide, see `fitting.Column`."""


SPREAD = MetricColumn("±", (summary.SPREAD,), ".1%", rank=7)
LARGEST_SPREAD = 9.99
"""A larger spread, as of two processes that differ much, is shown as larger than this."""
FORMS = {"fraction": ".3f", "score": ".3f", "MiB": ",.0f"}
"""Format specifications by unit."""
RUN_COLUMNS_FROM = 50
"""Metrics with this order or a higher one have a column only in the runs that have them."""
MOST_QUALITY = 4
"""The most columns of quality metrics with a position; one less beside a spread, so that the line fits."""
BOUND = "pipeline_bound_images_per_s"
PIPELINE_HEADINGS = ("read", "decode", "prep", "copy", "model", "post")
WIDTH_OF_BATCH = 5
LONGEST_REASON = 300
RANK_OF_OTHERS, RANK_OF_QUALITY = 6, 3
RANKS = {
    summary.LATENCY: 0,
    **dict.fromkeys(summary.MEMORY, 2),
    "latency_p95_ms": 5,
}
"""The ranks of columns by metric. The first column of throughput has rank 0, too."""


def parts(run: Run, runs: Sequence[Run], name: str, notes: dict[str, str], width: int) -> Iterator[RenderableType]:
    """Yield the name, the rows, the intervals, the pipeline and the loads of a run. Add reasons of marks to `notes`.

    Columns are as wide as the numbers of all `runs` need, so that their tables are aligned.
    """
    columns = {column: _width(column, runs) for column in timed_columns(runs) if not column.of_run}
    yield Text(name, style="bold")
    yield _table(run, {**columns, **_columns_of_run(run)}, notes, width)
    yield from _intervals(run)
    yield from _pipeline_steps(run, width)
    yield from _loads(run, notes, width)


def _table(run: Run, columns: Mapping[MetricColumn, int], notes: dict[str, str], width: int) -> Group:
    """Return the rows of one run, in columns of at least the given widths.

    A case without numbers has a line below the table with its status.
    """
    rows = [row for row in shown_rows(run) if row.status == OK and row.case.id != SERVING]
    cells = [Column("batch", [_batch(row) for row in rows], least_width=WIDTH_OF_BATCH)]
    cells += [
        Column(column.title, [cell(column, row, run.quality) for row in rows], rank=column.rank, least_width=least)
        for column, least in columns.items()
    ]
    cells.append(Column("", [_mark(row, notes) for row in rows], number=False, complete=True))
    if (quality := run.quality) and quality.status == OK:
        _mark(quality, notes)
    failed = [row for row in run.results if row.status != OK and row.case.offered is None]
    names = [row.case.size if row.case.timed else row.case.id for row in failed]
    lines = [f"{name:>{WIDTH_OF_BATCH}}  {_mark(row, notes)}" for name, row in zip(names, failed, strict=True)]
    return Group(*([fitted(cells, width)] if rows else []), *map(Text, lines))


def _batch(row: CaseResult) -> str:
    return row.case.size if row.case.timed else "–"


def _intervals(run: Run) -> Iterator[RenderableType]:
    """Yield the quality metrics of the table that have intervals, as many on a line as fit."""
    row = run.quality
    if row is None or row.status != OK:
        return
    values = [(column, value_with_interval(column.names[0], row.metrics.values)) for column in quality_columns(run)]
    mark = MARKS[row.validity.verdict]
    shown = [Text(f"{column.title} {interval_text(*value)}{mark}") for column, value in values if value and value[1]]
    if shown:
        yield Text(f"quality with its 95 % interval over {interval_basis(row)}", style="dim")
        yield Columns(shown, padding=(0, 3, 0, 0))


def interval_basis(row: CaseResult) -> str:
    """Return the units that the intervals of a quality case are over: images, or clusters of images."""
    return row.labels.get("interval_over", "images").replace("pictures", "images")


def _pipeline_steps(run: Run, width: int) -> Iterator[RenderableType]:
    """Yield the time of each pipeline step of a batch, and the throughput with overlapped steps."""
    rows = [row for row in run.results if row.metrics.values.get("pipeline_serial_ms") is not None]
    if not rows:
        return
    names = [*(f"pipeline_{step}_ms" for step in PIPELINE_STEPS), "pipeline_serial_ms"]
    names += [f"pipeline_{name}_images_per_s" for name in ("serial", "overlapped")]
    headings = [*PIPELINE_HEADINGS, "sum", "img/s", "overlapped"]
    if any(row.metrics.values.get(BOUND) is not None for row in rows):
        names.append(BOUND)
        headings[-1:] = ["overlap", "bound"]  # the table fits 80 columns
    columns = [
        Column(heading, [_three_digits(row.metrics.values.get(name)) for row in rows], least_width=5)
        for heading, name in zip(headings, names, strict=True)
    ]
    bound = " and its upper bound" if BOUND in names else ""
    yield Text(f"from files to outputs, ms per batch; img/s in series and overlapped{bound}", style="dim")
    yield fitted(
        [
            Column("batch", [str(row.case.batch_size) for row in rows], least_width=WIDTH_OF_BATCH),
            *columns,
            Column("limit", [_limit(row) for row in rows], number=False, complete=True),
        ],
        width,
        gap=1,
    )


def _loads(run: Run, notes: dict[str, str], width: int) -> Iterator[RenderableType]:
    """Yield the result of the search for the largest load, and a row for each load. Add reasons of marks to `notes`."""
    if run.load_search and (sentence := summary.load_sentence(run.results, run.declarations)):
        yield Text(f"{sentence} {_mark(run.load_search, notes)}".rstrip(), style="bold")
    if run.loads:
        labels = (row.labels.get(summary.LOAD_CONDITIONS, "") for row in run.loads)
        conditions = next(filter(None, labels), "")
        yield Text(": ".join(filter(None, ["under load", conditions])), style="dim")
        yield fitted(_load_columns(run, notes), width)
        yield from _missing_of_loads(run)


def _load_columns(run: Run, notes: dict[str, str]) -> list[Column]:
    """Return the columns of the loads of a run: the load or the clients, whether it holds the bound, the metrics that
    a load has a value of, and the mark."""
    rows = run.loads
    heading = "clients" if any(row.case.clients is not None for row in rows) else "load/s"
    metrics = [
        Column(metric.heading(), [cell(column(metric), row, None) for row in rows], rank=1 + index)
        for index, metric in enumerate(_load_metrics(run))
    ]
    decisions = Column("bound", [row.labels.get(summary.LOAD_DECISION, "") for row in rows], number=False)
    marks = Column("", [_mark(row, notes) for row in rows], number=False, complete=True)
    loads = Column(heading, [f"{row.case.offered:.4g}" for row in rows])
    return [loads, *([decisions] if any(decisions.cells) else []), *metrics, marks]


def _load_metrics(run: Run) -> list[MetricDeclaration]:
    """Return the metrics of loads that tables show and that a load of the run has a value of."""
    shown = declared.timed(run.declarations, run.loads)
    return [metric for metric in shown if any(row.metrics.values.get(metric.name) is not None for row in run.loads)]


def _missing_of_loads(run: Run) -> Iterator[RenderableType]:
    """Yield the metrics that no load has a value of, with the reason of the smallest load."""
    shown = _load_metrics(run)
    headings: dict[str, list[str]] = {}
    for metric in declared.timed(run.declarations, run.loads):
        if metric not in shown and (reason := run.loads[0].metrics.reasons.get(metric.name, "")):
            headings.setdefault(reason, []).append(metric.heading())
    if headings:
        yield Text("; ".join(f"{', '.join(names)}: {reason}" for reason, names in headings.items()), style="dim")


def column(declaration: MetricDeclaration) -> MetricColumn:
    """Return the column of a declared metric."""
    return MetricColumn(declaration.heading(), (declaration.name,), FORMS.get(declaration.unit, ""))


def _limit(row: CaseResult) -> str:
    """Return the busiest worker of the pipeline with its share of the time."""
    values = row.metrics.values
    busy = {
        worker: values.get(f"pipeline_{worker}_busy_fraction") or 0.0 for worker in ("loaders", "model", "finisher")
    }
    limit = max(busy, key=lambda worker: busy[worker])
    return f"{limit} {busy[limit]:.0%}"


def _three_digits(value: float | None) -> str:
    """Return three significant digits."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def shown_rows(run: Run) -> Sequence[CaseResult]:
    """Return the timed rows of a run, or its other rows if it has no timed ones. The rows of loads have a table of
    their own."""
    rows = [row for row in run.results if row.case.offered is None]
    return [row for row in rows if row.case.timed] or rows


def timed_columns(runs: Sequence[Run]) -> list[MetricColumn]:
    """Return the columns of timed cases. Metrics with equal titles share a column, and the spread is beside p50."""
    rows = [(run, row) for run in runs for row in shown_rows(run) if row.status == OK and row.case.id != SERVING]
    names = {name for _, row in rows for name in row.metrics.values}
    shown = dict.fromkeys(declaration for run, row in rows for declaration in declared.timed(run.declarations, [row]))
    throughput = summary.throughput_name([row for _, row in rows])
    titles: dict[str, list[MetricDeclaration]] = {}
    for declaration in sorted(shown, key=lambda declaration: declaration.order):
        titles.setdefault(declaration.heading(), []).append(declaration)
    columns = []
    for title, metrics in titles.items():
        if all(names.intersection(declaration.unless) for declaration in metrics):
            continue
        first = metrics[0]
        shown_names = tuple(declaration.name for declaration in metrics)
        rank = 0 if first.name == throughput else RANKS.get(first.name, RANK_OF_OTHERS)
        of_run = first.order >= RUN_COLUMNS_FROM
        columns.append(MetricColumn(title, shown_names, FORMS.get(first.unit, ""), of_run, rank))
        if summary.LATENCY in columns[-1].names and summary.SPREAD in names:
            columns.append(SPREAD)
    return columns


def _columns_of_run(run: Run) -> dict[MetricColumn, int]:
    """Return the columns that only this run has, with their widths: timed metrics, then quality."""
    timed = [column for column in timed_columns([run]) if column.of_run]
    return {column: _width(column, [run]) for column in (*timed, *quality_columns(run))}


def quality_columns(run: Run) -> list[MetricColumn]:
    """Return the quality columns of a run: the first metrics in order, and one of each group without a position."""
    metrics = declared.quality(run.declarations, run.quality)
    limit_of_columns = MOST_QUALITY - any(summary.SPREAD in row.metrics.values for row in run.results)
    placed = [declaration for declaration in metrics if declaration.order < declared.UNPLACED][:limit_of_columns]
    first_of_group = {
        declaration.group: declaration for declaration in reversed(metrics) if declaration.order >= declared.UNPLACED
    }
    shown = [declaration for declaration in metrics if declaration in placed or declaration in first_of_group.values()]
    return [
        MetricColumn(
            declaration.heading(),
            (declaration.name,),
            FORMS.get(declaration.unit, ".3f"),
            rank=min(RANK_OF_QUALITY + index, RANK_OF_OTHERS),
        )
        for index, declaration in enumerate(shown)
    ]


def _width(column: MetricColumn, runs: Sequence[Run]) -> int:
    cells = (cell(column, row, run.quality) for run in runs for row in shown_rows(run))
    return max(6, len(column.title), *map(len, cells))


def cell(column: MetricColumn, row: CaseResult, quality: CaseResult | None) -> str:
    """Return the value of a case as text, or that of the quality case with its mark; `–` without a value."""
    return _value(column, row) or (quality_cell(column, quality) if quality is not row else "–")


def quality_cell(column: MetricColumn, quality: CaseResult | None) -> str:
    """Return the value of the quality case as text, with its mark; `–` without a value."""
    value = _value(column, quality) if quality else ""
    return f"{value}{MARKS[quality.validity.verdict]}" if quality and value else "–"


def _value(column: MetricColumn, row: CaseResult) -> str:
    """Return the first metric of the column that the row has a value of, as text; empty without a value."""
    values = (row.metrics.values.get(name) for name in column.names)
    value = next((value for value in values if value is not None), None)
    if column is SPREAD and value is not None and value > LARGEST_SPREAD:
        return f">{LARGEST_SPREAD:.0%}"
    return "" if value is None else format(value, column.format_spec or (".4g" if abs(value) < 1000 else ",.0f"))


def _mark(row: CaseResult, notes: dict[str, str]) -> str:
    """Return the mark of a case, or its status without numbers. Add its reasons to the notes."""
    if row.status != OK:
        reason = short_reason(row)
        earlier = notes.get(row.status, "")
        notes[row.status] = earlier if reason in earlier else "; ".join(filter(None, [earlier, reason]))
        return row.status
    doubts: dict[str, str] = {}
    for doubt in row.validity.reasons:
        doubts[doubt.kind] = "; ".join(filter(None, [doubts.get(doubt.kind), doubt.detail]))
    notes.update(doubts)
    return MARKS[row.validity.verdict]


def short_reason(row: CaseResult) -> str:
    """Return the reason why a case has no numbers, in one line of limited length."""
    return shorten(row.reason or "", LONGEST_REASON, placeholder=" …")
