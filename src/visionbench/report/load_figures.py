"""Figures of loads: the latency of each run over its load, and each other metric of all runs over their load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from visionbench.core import LOAD, CaseResult, MetricDeclaration, interval_ends
from visionbench.report import drawing, selection, translations
from visionbench.report.drawing import SERIES, SOFT
from visionbench.report.labels import shorten
from visionbench.report.selection import LINES, SHAPES, Series
from visionbench.report.sweep_figures import (
    LONGEST_NAME,
    MOST_CURVES,
    SIZE,
    WIDE_RANGE,
    SweepFigure,
    series,
    symbol,
    verdict_entries,
)
from visionbench.report.translations import translate
from visionbench.results import declared
from visionbench.results.archive import Run

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SECTION = "loads"
MOST_LATENCIES = 6
"""The most runs that have a figure of their latencies."""
NOT_DRAWN = ("serving_queries_count",)
"""Metrics of the table that have no figure."""
BOUNDS = ("p90_ms", "p95_ms", "p99_ms")
"""The keys of `serving` that hold the bound of a latency."""


def figures(runs: Sequence[Run], language: str) -> Iterator[SweepFigure]:
    """Yield the figures of each task whose runs have loads."""
    groups = {translations.task(name, language): members for name, members in selection.by_task(runs).items()}
    with drawing.styled(language):
        for name, members in groups.items():
            yield from _figures(series(members), f"{name}: " if len(groups) > 1 else "", language)


def _figures(members: Sequence[Series], prefix: str, language: str) -> Iterator[SweepFigure]:
    """Yield the latency of each run, then each other metric of all runs."""
    known = [one for one in members if _metrics(one)]
    for one in selection.choose(known, MOST_LATENCIES):
        latencies = [metric for metric in _metrics(one) if metric.unit == "ms"]
        if latencies:
            title = f"{prefix}{translate('latency', language)}" + (f", {one.name}" if len(known) > 1 else "")
            yield SweepFigure(SECTION, title, _latencies(one, latencies, language), 1, 1)
    others = dict.fromkeys(
        metric for one in known for metric in _metrics(one) if metric.unit != "ms" and metric.name not in NOT_DRAWN
    )
    for metric in sorted(others, key=lambda metric: metric.order):
        drawn = [one for one in known if drawing.points(one.run.loads, metric.name)]
        shown = selection.choose(drawn, MOST_CURVES)
        figure = _over_load(shown, metric, language)
        yield SweepFigure(SECTION, f"{prefix}{metric.heading(language)}", figure, len(shown), len(drawn))


def _metrics(one: Series) -> list[MetricDeclaration]:
    """Return the metrics of loads that tables show and that a load of the run has a value of."""
    shown = declared.timed(one.run.declarations, one.run.loads)
    return [metric for metric in shown if metric.axis == LOAD and drawing.points(one.run.loads, metric.name)]


def _latencies(one: Series, metrics: Sequence[MetricDeclaration], language: str) -> Figure:
    """Draw the latencies of one run over its load, with the bound and the interval of the largest load within it."""
    figure, axes = drawing.new_figure(SIZE)
    entries: list[tuple[Artist, str]] = []
    for index, metric in enumerate(metrics):
        look = {"color": SERIES[index % len(SERIES)], "ls": LINES[index % len(LINES)]}
        shape = SHAPES[index % len(SHAPES)]
        _curve(axes, one.run.loads, metric, look, shape, metric.heading(language), language)
        entries.append((drawing.symbol(**look, marker=shape, ms=5, lw=1.4), metric.heading(language)))
    if (bound := _bound(one)) is not None:
        (line,) = axes.plot([0, 1], [bound, bound], transform=axes.get_yaxis_transform(), color=SOFT, lw=1.2, ls=":")
        entries.append((line, translate("bound", language)))
    if (band := _largest_load(one)) is not None:
        entries.append((axes.axvspan(*band, color=SOFT, alpha=0.18, lw=0), translate("largest load", language)))
    axes.set_yscale("log")
    drawing.plain_log_ticks(axes.yaxis, [value for metric in metrics for _, value in _points(one, metric)])
    _load_axis(axes, one.run.loads, language)
    axes.set_ylabel(translate("latency (ms)", language))
    verdicts = {row.validity.verdict for metric in metrics for row, _ in _points(one, metric)}
    drawing.legend_below(figure, [*entries, *verdict_entries(verdicts, language)])
    return figure


def _over_load(shown: Sequence[Series], metric: MetricDeclaration, language: str) -> Figure:
    """Draw a metric of runs over their load, with its interval if it has one."""
    figure, axes = drawing.new_figure(SIZE)
    for one in shown:
        look = {"color": one.style.colour, "ls": one.style.line}
        _curve(axes, one.run.loads, metric, look, one.style.shape, one.name, language)
    values = [value for one in shown for _, value in _points(one, metric)]
    if metric.unit != "fraction" and min(values) > 0 and max(values) / min(values) > WIDE_RANGE:
        axes.set_yscale("log")
        drawing.plain_log_ticks(axes.yaxis, values)
    else:
        axes.set_ylim(bottom=0, top=1.03 if metric.unit == "fraction" else None)
    _load_axis(axes, [row for one in shown for row in one.run.loads], language)
    axes.set_ylabel(metric.heading(language))
    verdicts = {row.validity.verdict for one in shown for row, _ in _points(one, metric)}
    names = [(symbol(one, line=True), shorten(one.name, LONGEST_NAME)) for one in shown] if len(shown) > 1 else []
    drawing.legend_below(figure, [*names, *verdict_entries(verdicts, language)])
    return figure


def _curve(
    axes: Axes,
    rows: Sequence[CaseResult],
    metric: MetricDeclaration,
    look: dict[str, Any],
    shape: str,
    name: str,
    language: str,
) -> None:
    marks = {verdict: {**mark, "markersize": 5} for verdict, mark in drawing.marks(look["color"], shape=shape).items()}
    escaped = name.replace("{", "{{").replace("}", "}}")
    tip = translate("tip of load", language, name=escaped, unit=metric.unit)
    ends = interval_ends(metric.name) if metric.intervals else None
    drawing.curve(axes, drawing.points(rows, metric.name), {"lw": 1.4, **look}, marks, ends, tip=tip)


def _points(one: Series, metric: MetricDeclaration) -> list[tuple[CaseResult, float]]:
    return drawing.points(one.run.loads, metric.name)


def _load_axis(axes: Axes, rows: Sequence[CaseResult], language: str) -> None:
    """Format the axis of loads, or of clients if all runs have a closed loop. A wide range is logarithmic."""
    loads = sorted({drawing.position(row) for row in rows})
    if loads[-1] / loads[0] > WIDE_RANGE:
        axes.set_xscale("log")
        drawing.plain_log_ticks(axes.xaxis, loads)
    else:
        axes.set_xlim(left=0)
    closed = all(row.case.clients is not None for row in rows)
    axes.set_xlabel(translate("clients" if closed else "load (requests/s)", language))
    drawing.grid(axes)


def _bound(one: Series) -> float | None:
    """Return the bound of the latency in ms, or None if the run has none."""
    serving = one.run.record.config.get("serving") or {}
    return next((float(bound) for key in BOUNDS if (bound := serving.get(key)) is not None), None)


def _largest_load(one: Series) -> tuple[float, float] | None:
    """Return the interval of the largest load within the bound, or None if the search did not find both ends."""
    row = one.run.load_search
    for metric in declared.timed(one.run.declarations, [row] if row else []):
        low, high = (drawing.values(row).get(end) for end in interval_ends(metric.name))
        if low is not None and high is not None:
            return low, high
    return None
