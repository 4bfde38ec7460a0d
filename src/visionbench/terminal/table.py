"""The table that commands print: one row per case, marks for questionable and invalid cases, and the conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from visionbench.core import EVALUATION_STEPS, INVALID, OK, PIPELINE_STEPS, VALID, WARNED, CaseResult, MetricDeclaration
from visionbench.records.record import DataSettings
from visionbench.results import declared, summary
from visionbench.results.archive import Run
from visionbench.results.summary import launch_bound, remarks
from visionbench.statistics.resampling import interval_text, value_with_interval

MARKS = {VALID: "", WARNED: "?", INVALID: "!"}
LEGEND = "? questionable   ! invalid"


@dataclass(frozen=True)
class Column:
    """A column: its heading, its metrics, and the format of values. The first metric with a value is shown."""

    title: str
    names: tuple[str, ...]
    format_spec: str = ""
    """A format specification of Python, such as `.1f`; four significant digits if it is empty."""
    of_run: bool = False
    """Whether only the runs that have the metric have the column."""


SPREAD = Column("±", (summary.SPREAD,), ".1%")
FORMS = {"fraction": ".3f", "score": ".3f", "MiB": ",.0f"}
"""Format specifications by unit."""
RUN_COLUMNS_FROM = 50
"""Metrics with this order or a higher one have a column only in the runs that have them."""
UNPLACED = 100
"""The order of metrics that declare no position, such as those of other packages."""
MOST_QUALITY = 4
"""The most columns of quality metrics with a position; one less beside a spread, so that the line fits."""
PIPELINE_HEADINGS = ("read", "decode", "prep", "copy", "model", "post")
WIDTH_OF_BATCH = 5


def show(runs: Sequence[Run], console: Console) -> None:
    """Print the table of these runs."""
    console.print(render(runs))


def render(runs: Sequence[Run]) -> RenderableType:
    """Return the rows of each run, then the doubts, the reasons for missing numbers, and the conditions."""
    columns = {column: _width(column, runs) for column in _timed_columns(runs) if not column.of_run}
    notes: dict[str, str] = {}
    parts: list[RenderableType] = []
    for run in runs:
        name = Text(run.name, style="bold")
        parts += [
            name,
            _table(run, {**columns, **_columns_of_run(run)}, notes),
            *_intervals(run),
            *_pipeline_steps(run),
            Text(),
        ]
    return Group(*parts, *(Text(line, style="dim") for line in [*_legend(notes), *_footnotes(runs)]))


def _table(run: Run, columns: Mapping[Column, int], notes: dict[str, str]) -> Group:
    """Return the rows of one run, in columns of the given widths, which are equal for all runs.

    A case without numbers has a line below the table with its status.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("batch", justify="right", width=WIDTH_OF_BATCH)
    for column, width in columns.items():
        table.add_column(column.title, justify="right", width=width, no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in [row for row in _shown_rows(run) if row.status == OK]:
        batch = str(row.case.batch_size) if row.case.timed else "–"
        table.add_row(batch, *(_cell(column, row, run.quality) for column in columns), _mark(row, notes))
    if (quality := run.quality) and quality.status == OK:
        _mark(quality, notes)
    failed = [row for row in run.results if row.status != OK]
    names = [str(row.case.batch_size) if row.case.timed else row.case.id for row in failed]
    lines = [f"{name:>{WIDTH_OF_BATCH}}  {_mark(row, notes)}" for name, row in zip(names, failed, strict=True)]
    return Group(*([table] if table.row_count else []), *map(Text, lines))


def _intervals(run: Run) -> Iterator[RenderableType]:
    """Yield the quality metrics of the table that have intervals, as many on a line as fit."""
    row = run.quality
    if row is None or row.status != OK:
        return
    values = [(column, value_with_interval(column.names[0], row.metrics.values)) for column in _quality_columns(run)]
    mark = MARKS[row.validity.verdict]
    shown = [Text(f"{column.title} {interval_text(*value)}{mark}") for column, value in values if value and value[1]]
    if shown:
        yield Text(f"quality with its 95 % interval over {interval_basis(row)}", style="dim")
        yield Columns(shown, padding=(0, 3, 0, 0))


def interval_basis(row: CaseResult) -> str:
    """Return the units that the intervals of a quality case are over: images, or clusters of images."""
    return row.labels.get("interval_over", "images").replace("pictures", "images")


def _pipeline_steps(run: Run) -> Iterator[RenderableType]:
    """Yield the time of each pipeline step of a batch, and the throughput with overlapped steps."""
    rows = [row for row in run.results if row.metrics.values.get("pipeline_serial_ms") is not None]
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("batch", justify="right", width=WIDTH_OF_BATCH)
    for heading in (*PIPELINE_HEADINGS, "sum", "img/s", "overlapped"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=5)
    table.add_column("limit", no_wrap=True)
    for row in rows:
        values = row.metrics.values
        names = [*(f"pipeline_{step}_ms" for step in PIPELINE_STEPS), "pipeline_serial_ms"]
        names += ["pipeline_serial_images_per_s", "pipeline_overlapped_images_per_s"]
        cells = [_three_digits(values.get(name)) for name in names]
        busy = {
            worker: values.get(f"pipeline_{worker}_busy_fraction") or 0.0 for worker in ("loaders", "model", "finisher")
        }
        limit = max(busy, key=lambda worker: busy[worker])
        table.add_row(str(row.case.batch_size), *cells, f"{limit} {busy[limit]:.0%}")
    yield Text("from files to outputs, ms per batch; img/s in series and overlapped", style="dim")
    yield table


def _three_digits(value: float | None) -> str:
    """Return three significant digits."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _shown_rows(run: Run) -> Sequence[CaseResult]:
    return [row for row in run.results if row.case.timed] or run.results


def _timed_columns(runs: Sequence[Run]) -> list[Column]:
    """Return the columns of timed cases. Metrics with equal titles share a column, and the spread is beside p50."""
    rows = [(run, row) for run in runs for row in _shown_rows(run) if row.status == OK]
    names = {name for _, row in rows for name in row.metrics.values}
    shown = dict.fromkeys(declaration for run, row in rows for declaration in declared.timed(run.declarations, [row]))
    titles: dict[str, list[MetricDeclaration]] = {}
    for declaration in sorted(shown, key=lambda declaration: declaration.order):
        titles.setdefault(declaration.heading(), []).append(declaration)
    columns = []
    for title, metrics in titles.items():
        if all(names.intersection(declaration.unless) for declaration in metrics):
            continue
        first = metrics[0]
        shown_names = tuple(declaration.name for declaration in metrics)
        columns.append(Column(title, shown_names, FORMS.get(first.unit, ""), first.order >= RUN_COLUMNS_FROM))
        if summary.LATENCY in columns[-1].names and summary.SPREAD in names:
            columns.append(SPREAD)
    return columns


def _columns_of_run(run: Run) -> dict[Column, int]:
    """Return the columns that only this run has, with their widths: timed metrics, then quality."""
    timed = [column for column in _timed_columns([run]) if column.of_run]
    return {column: _width(column, [run]) for column in (*timed, *_quality_columns(run))}


def _quality_columns(run: Run) -> list[Column]:
    """Return the quality columns of a run: the first metrics in order, and one of each group without a position."""
    metrics = declared.quality(run.declarations, run.quality)
    limit_of_columns = MOST_QUALITY - any(summary.SPREAD in row.metrics.values for row in run.results)
    placed = [declaration for declaration in metrics if declaration.order < UNPLACED][:limit_of_columns]
    first_of_group = {
        declaration.group: declaration for declaration in reversed(metrics) if declaration.order >= UNPLACED
    }
    return [
        Column(declaration.heading(), (declaration.name,), FORMS.get(declaration.unit, ".3f"))
        for declaration in metrics
        if declaration in placed or declaration in first_of_group.values()
    ]


def _width(column: Column, runs: Sequence[Run]) -> int:
    cells = (_cell(column, row, run.quality) for run in runs for row in _shown_rows(run))
    return max(6, len(column.title), *map(len, cells))


def _cell(column: Column, row: CaseResult, quality: CaseResult | None) -> str:
    for source in filter(None, (row, quality)):
        for name in column.names:
            if (value := source.metrics.values.get(name)) is not None:
                mark = MARKS[source.validity.verdict] if source is quality and source is not row else ""
                return format(value, column.format_spec or (".4g" if abs(value) < 1000 else ",.0f")) + mark
    return "–"


def _mark(row: CaseResult, notes: dict[str, str]) -> str:
    """Return the mark of a case, or its status without numbers. Add its reasons to the notes."""
    if row.status != OK:
        reason = shorten(row.reason or "", 300, placeholder=" …")
        earlier = notes.get(row.status, "")
        notes[row.status] = earlier if reason in earlier else "; ".join(filter(None, [earlier, reason]))
        return row.status
    doubts: dict[str, str] = {}
    for doubt in row.validity.reasons:
        doubts[doubt.kind] = "; ".join(filter(None, [doubts.get(doubt.kind), doubt.detail]))
    notes.update(doubts)
    return MARKS[row.validity.verdict]


def _legend(notes: Mapping[str, str]) -> Iterator[str]:
    if notes:
        yield LEGEND
        yield from (f"  {kind}: {detail}" for kind, detail in notes.items())


def _footnotes(runs: Sequence[Run]) -> Iterator[str]:
    """Yield each remark once, after the models or runs that it is about."""
    about: dict[str, dict[str, None]] = {}
    for run in runs:
        for model, remark in footnotes(run):
            about.setdefault(remark, {})[model] = None
    for remark, names in about.items():
        yield ": ".join(filter(None, [", ".join(filter(None, names)), remark]))


def footnotes(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the conditions and warnings of a run, each with its model or run, or with an empty text."""
    record, plan, device, host = run.record, run.record.plan, run.record.device, run.record.host
    threads = f", {device.threads} threads" if device.threads is not None else ""
    versions = f"torch {host.version('torch')}, transformers {host.version('transformers')}"
    yield "", f"on {device.device_name or plan.device}{threads}, {versions}"
    if repeats := record.repeats:
        yield (
            "",
            f"{repeats.measured} fresh processes, order seed {repeats.order_seed}: geometric means; "
            "±: half the 95 % interval of p50 across processes",
        )
    if (protocol := plan.protocol) != "standard":
        yield "", f"measure={protocol}: not the standard protocol; use measure=standard for decisions"
    if record.settings.model.weights == "random":
        yield plan.model, "random weights; speed and memory are those of the real model, quality is refused"
    else:
        yield from ((plan.model, f"no {name}, because {reason}") for name, reason in plan.refused.items())
    yield from (("", warning) for warning in plan.warnings)
    if any(row.metrics.values.get("memory_peak_allocated_mib") is not None for row in run.results):
        yield "", "peak MiB: peak allocated on the device"
    elif any(row.metrics.values.get("memory_process_peak_mib") is not None for row in run.results):
        yield "", "peak MiB: peak resident set of the process, libraries included"
    if bound := launch_bound(run.results):
        yield plan.name, bound
    yield from ((plan.name, remark) for remark in remarks(run.results))
    if (row := run.quality) and row.status == OK:
        yield plan.name, _coverage(row, record.settings.data)
    elif record.left_out:
        yield "", f"{len(record.left_out)} images of {record.settings.data.name} left out, see run.json"


def _coverage(row: CaseResult, data: DataSettings) -> str:
    """Return the number of images of the quality case, its speed from file to output, and the share of each step."""
    values = row.metrics.values
    text = f"quality over {_image_count(values, data.options)} of {data.name}"
    shares = {step: values.get(f"evaluation_{step}_share_fraction") for step in EVALUATION_STEPS}
    if speed := values.get("evaluation_images_per_s"):
        steps = ", ".join(f"{step} {share:.0%}" for step, share in shares.items() if share is not None)
        text += f", {speed:.4g} img/s from file to output ({steps})"
    return text


def _image_count(values: Mapping[str, float | None], options: Mapping[str, Any]) -> str:
    """Return the number of images, such as `a sample of 24 of 120 images`, as far as it is known."""
    used = values.get("pictures_used_count") or values.get("evaluation_images_count")
    total = values.get("pictures_found_count")
    if not used:
        return "all images"
    if not total or used >= total:
        return f"{used:.0f} images"
    sample = "a sample of " if options.get("samples") is not None else ""
    return f"{sample}{used:.0f} of {total:.0f} images"
