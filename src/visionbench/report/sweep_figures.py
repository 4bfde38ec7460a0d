"""Figures of a complete sweep for the report, one per task and section.

Each figure shows the most important runs of its task (`selection.choose`); a run has the same colour, line and mark in
all figures of its task.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench.core import INVALID, OK, PIPELINE_STEPS, VALID, WARNED, CaseResult, MetricDeclaration
from visionbench.report import drawing, labels, selection, translations
from visionbench.report.drawing import GRID, LEGEND_SIZE, PAPER, SERIES, SOFT
from visionbench.report.labels import Target, shorten
from visionbench.report.selection import LINES, Series
from visionbench.report.translations import translate
from visionbench.results import summary
from visionbench.results.archive import Run
from visionbench.results.naming import Names
from visionbench.statistics.resampling import value_with_interval

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (5.2, 3.3)
"""Inches: small enough to be readable on the width of a phone."""
SMALL = (4.2, 2.5)
HATCHES = ("", "//", "\\\\", "xx", "--", "||")
"""The patterns of the parts of a bar, so that colour is not the only difference."""
BAR_INCHES, BAR_MARGIN = 0.42, 0.75
MOST_MARKS = 200
"""The most runs in a figure of quality against speed."""
MOST_CURVES, MOST_BARS, MOST_DISTRIBUTIONS = 8, 12, 12
"""The most runs in a figure of curves and of bars, and the most figures of distributions."""
MOST_POINTS = 200
"""The most points of the curve of a distribution."""
LONGEST_NAME = 42
"""Characters of a name in a figure."""
WIDEST_LABELS = 0.4
"""The share of the width of a figure that labels at the ends of curves may take; wider labels become a legend."""
WIDE_RANGE = 12
"""An axis whose largest value is this many times its smallest value is logarithmic."""
ROOFLINE = (
    "flops_intensity_flop_per_byte",
    "flops_achieved_tflop_per_s",
    "flops_ceiling_tflop_per_s",
    "flops_copy_gb_per_s",
)
"""The metrics that a point of the roofline needs."""


@dataclass(frozen=True)
class SweepFigure:
    """A figure of the report: its section, its title, the runs that it shows, and what a reader must know of it."""

    section: str
    title: str
    figure: Figure
    drawn: int
    """The number of runs in the figure."""
    available: int
    """The number of runs that could be in the figure."""
    note: str = ""
    """A sentence for this figure only, such as the kind of its intervals."""


def figures(runs: Sequence[Run], language: str) -> Iterator[SweepFigure]:
    """Yield every figure for which the results have numbers, section by section."""
    groups = {translations.task(name, language): series(members) for name, members in selection.by_task(runs).items()}
    most_distributions = max(MOST_DISTRIBUTIONS // max(len(groups), 1), 1)
    with drawing.styled(language):
        for draw in (_curves, _distributions, _memory, _tradeoffs, _stages, _roofline):
            for name, members in groups.items():
                most = most_distributions if draw is _distributions else MOST_CURVES
                yield from draw(members, name, f"{name}: " if len(groups) > 1 else "", most, language)


def series(runs: Sequence[Run]) -> list[Series]:
    """Return the runs of one task, each with its name and its style. The name has only what differs in the task."""
    names, chosen = Names.of(runs), selection.styles(runs)
    return [Series(run, names.short(run), style) for run, style in zip(runs, chosen, strict=True)]


# ---------------------------------------------------------------------------------------------------- over batch size
def _curves(members: Sequence[Series], task: str, prefix: str, most: int, language: str) -> Iterator[SweepFigure]:
    """Yield the figures of throughput and of latency over batch size."""
    throughput = summary.throughput_name([row for one in members for row in one.run.timed])
    for metric, title, label in (
        (
            throughput,
            translate("throughput", language),
            f"{translate('throughput', language)} ({summary.unit(throughput)})",
        ),
        (summary.LATENCY, translate("latency", language), translate("latency, p50 (ms)", language)),
    ):
        known = [one for one in members if _points(one, metric)]
        if known:
            shown = selection.choose(known, most)
            note = _interval_note(shown, language) if metric == summary.LATENCY else ""
            figure = _curve_figure(shown, metric, label, language)
            yield SweepFigure("curves", f"{prefix}{title}", figure, len(shown), len(known), note)


def _interval_note(shown: Sequence[Series], language: str) -> str:
    """Return the sentence about the intervals of the median latency of these runs."""
    scopes = {"across processes" if one.run.record.repeats else "within a process" for one in shown}
    return translate("intervals", language, kind=", ".join(translate(scope, language) for scope in sorted(scopes)))


def _curve_figure(shown: Sequence[Series], metric: str, label: str, language: str) -> Figure:
    """Draw a metric of runs over batch size. The runs have labels at the ends of their curves, or else a legend."""
    figure, axes = drawing.new_figure(SIZE)
    unit = "ms" if metric == summary.LATENCY else summary.unit(metric)
    for one in shown:
        line = {"color": one.style.colour, "ls": one.style.line, "lw": 1.4}
        marks = {verdict: {**mark, "markersize": 5.5} for verdict, mark in _marks(one).items()}
        ends = summary.latency_ends(one.run.record.repeats is not None) if metric == summary.LATENCY else None
        tip = translate("tip of case", language, name=one.name.replace("{", "{{").replace("}", "}}"), unit=unit)
        drawing.curve(axes, drawing.points(one.run.timed, metric), line, marks, ends, tip=tip)
    drawing.batch_axis(axes, [row for one in shown for row in one.run.timed])
    axes.set_yscale("log")
    drawing.plain_log_ticks(axes.yaxis, [value for line in axes.lines for value in np.asarray(line.get_ydata(), float)])
    axes.set(xlabel=translate("batch size", language), ylabel=label)
    drawing.grid(axes)
    legend = verdict_entries({row.validity.verdict for one in shown for row in _rows(one, metric)}, language)
    if len(shown) > 1 and not _label_ends(axes, shown, metric):
        legend = [*((symbol(one, line=True), shorten(one.name, LONGEST_NAME)) for one in shown), *legend]
    drawing.legend_below(figure, legend)
    return figure


def _label_ends(axes: Axes, shown: Sequence[Series], metric: str) -> bool:
    """Write the name of each run at the right end of its curve. If they do not fit, write none and return False."""
    ends = [(float(row.case.batch_size), value) for one in shown for row, value in _points(one, metric)[-1:]]
    targets = [
        Target(*end, shorten(one.name, LONGEST_NAME), one.style.colour) for end, one in zip(ends, shown, strict=True)
    ]
    share = labels.width(axes, [target.text for target in targets])
    if share > WIDEST_LABELS:
        return False
    before = axes.get_xlim()
    low, high = np.log2(before)
    axes.set_xlim(before[0], 2 ** (low + (high - low) / (1 - share)))
    placed = labels.place(axes, targets, ends, around=labels.SPREAD)
    if all(placed):
        return True
    for annotation in filter(None, placed):
        annotation.remove()
    axes.set_xlim(before)
    return False


# ------------------------------------------------------------------------------------------------ quality against speed
def _tradeoffs(members: Sequence[Series], task: str, prefix: str, most: int, language: str) -> Iterator[SweepFigure]:
    """Yield a figure for each headline metric of the task. It shows up to MOST_MARKS runs, and names some of them."""
    headlines = {one.headline[0].name: one.headline[0] for one in members if one.headline}
    for name, declaration in sorted(headlines.items(), key=lambda item: (item[1].headline, item[1].order)):
        known = [one for one in members if one.throughput and one.headline and one.headline[0].name == name]
        if not known:
            continue
        shown = selection.choose(known, MOST_MARKS)
        figure, unnamed = _tradeoff(shown, declaration, False, language)
        if unnamed and len(shown) > 1 and _identities(shown):
            figure, unnamed = _tradeoff(shown, declaration, True, language)
        note = translate("unnamed", language, count=unnamed) if unnamed else ""
        heading = declaration.heading(language)
        yield SweepFigure("tradeoff", f"{prefix}{heading}", figure, len(shown), len(known), note)


def _tradeoff(
    shown: Sequence[Series], declaration: MetricDeclaration, with_legend: bool, language: str
) -> tuple[Figure, int]:
    """Draw the quality of runs over their throughput, with the intervals and the Pareto front.

    Return the figure, and the number of runs with neither a label nor an entry in the legend.
    """
    figure, axes = drawing.new_figure(SIZE)
    heading = declaration.heading(language)
    unit = summary.unit(summary.throughput_name([row for one in shown for row in one.run.timed]))
    bounds: list[float] = []
    lines: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for one in shown:
        speed, quality = _speed_and_quality(one)
        estimate = value_with_interval(declaration.name, drawing.values(one.run.quality))
        interval = estimate[1] if estimate else None
        if interval:
            drawing.draw_interval(axes, speed, interval, color=one.style.colour, alpha=0.6)
            lines.append(((speed, interval[0]), (speed, interval[1])))
        (mark,) = axes.plot([speed], [quality], ls="none", ms=7, **_marks(one)[one.verdict])
        drawing.add_tip(mark, f"{one.name}: {heading} {quality:.4g}, {speed:,.4g} {unit} ({one.verdict})")
        bounds += [quality, *(interval or ())]
    front = [_speed_and_quality(one) for one in selection.front(shown)]
    if len(front) > 1:
        axes.plot(*zip(*front, strict=True), color=SOFT, lw=1, ls="--", zorder=1)
        lines += pairwise(front)
    _speed_axis(axes, [_speed_and_quality(one)[0] for one in shown])
    _quality_axis(axes, bounds, declaration.unit == "fraction")
    axes.set(xlabel=f"{translate('throughput', language)} ({unit})", ylabel=heading)
    drawing.grid(axes)
    entries = _identities(shown) if with_legend else []
    drawing.legend_below(figure, [*entries, *verdict_entries({one.verdict for one in shown}, language)])
    names = _names_within_model(shown) if entries else {id(one): one.name for one in shown}
    targets = [
        Target(*_speed_and_quality(one), shorten(names[id(one)], LONGEST_NAME), one.style.colour)
        for one in selection.by_importance(shown)
        if id(one) in names
    ]
    placed = labels.place(axes, targets, [_speed_and_quality(one) for one in shown], lines)
    return figure, len(names) - sum(annotation is not None for annotation in placed)


def _names_within_model(shown: Sequence[Series]) -> dict[int, str]:
    """Return the names beside a legend of models: what differs between the runs of a model, if it has several runs."""
    groups: dict[str, list[Series]] = {}
    for one in shown:
        groups.setdefault(one.run.model, []).append(one)
    if len(groups) == 1:
        return {}
    names: dict[int, str] = {}
    for group in groups.values():
        if len(group) > 1:
            of_group = Names.of([one.run for one in group])
            names |= {id(one): of_group.short(one.run) for one in group}
    return names


def _identities(shown: Sequence[Series]) -> list[tuple[Artist, str]]:
    """Return the entries of a legend: the models, or the runs of a single model if they are few."""
    models = {one.run.model: one for one in shown}
    if len(models) > 1:
        return [(symbol(one), shorten(model, LONGEST_NAME)) for model, one in models.items()]
    return [(symbol(one), shorten(one.name, LONGEST_NAME)) for one in shown] if len(shown) <= MOST_CURVES else []


def _speed_and_quality(one: Series) -> tuple[float, float]:
    return one.throughput or 0.0, one.headline[1] if one.headline else 0.0


def _speed_axis(axes: Axes, speeds: Sequence[float]) -> None:
    """Set the limits of the axis of throughput. It is logarithmic if the values span a wide range; never below zero."""
    low, high = min(speeds), max(speeds)
    if high / low > WIDE_RANGE:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.6, high * 1.6)
        drawing.plain_log_ticks(axes.xaxis, speeds)
        return
    margin = 0.2 * (high - low) or 0.2 * high
    axes.set_xlim(max(low - margin, 0.0), high + margin)
    axes.xaxis.set_major_formatter("{x:,g}")


def _quality_axis(axes: Axes, bounds: Sequence[float], is_fraction: bool) -> None:
    """Set the limits of the axis of quality; a fraction has no ticks below 0 or above 1."""
    low, high = min(bounds), max(bounds)
    margin = 0.15 * (high - low) or 0.05 * abs(high) or 0.05
    axes.set_ylim(low - margin, high + margin)
    if is_fraction:
        axes.set_yticks(
            [tick for tick in axes.get_yticks() if 0 <= tick <= 1 and low - margin <= tick <= high + margin]
        )
    elif low >= 0:
        axes.set_ylim(bottom=max(low - margin, 0.0))


# ------------------------------------------------------------------------------------------------------- distributions
def _distributions(
    members: Sequence[Series], task: str, prefix: str, most: int, language: str
) -> Iterator[SweepFigure]:
    import seaborn

    available = [one for one in members if _points(one, summary.LATENCY)]
    known = list(islice((one for one in selection.by_importance(available) if _has_calls(one.run)), most))
    shown = [one for one in members if any(one is other for other in known)]
    for one in shown:
        timed = [row for row in one.run.timed if row.status == OK]
        sizes = _spread([row.case.batch_size for row in timed], MOST_CURVES)
        rows = [row for row in timed if row.case.batch_size in sizes]
        calls = {row.case.batch_size: values for row in rows if len(values := _host_ms(one.run, row))}
        figure, axes = drawing.new_figure(SMALL)
        entries = []
        for index, (size, values) in enumerate(calls.items()):
            look: dict[str, Any] = {"color": SERIES[index % len(SERIES)], "ls": LINES[index % len(LINES)], "lw": 1.6}
            shares = (np.arange(min(len(values), MOST_POINTS)) + 0.5) / min(len(values), MOST_POINTS)
            reduced = np.quantile(values, shares, method="inverted_cdf")
            seaborn.ecdfplot(x=reduced, ax=axes, **look)
            entries.append((drawing.symbol(**look), str(size)))
        axes.set(
            xscale="log",
            xlabel=translate("call (ms)", language),
            ylabel=translate("share of calls", language),
            ylim=(0, 1.02),
        )
        drawing.plain_log_ticks(axes.xaxis, [value for values in calls.values() for value in values])
        drawing.grid(axes)
        drawing.legend_below(figure, entries, translate("batch size", language))
        drawn = (len(shown), max(len(shown), len(available)))
        counts = drawn if one is shown[0] else (1, 1)  # the note is only below the first figure
        yield SweepFigure("distribution", f"{prefix}{one.name}", figure, *counts)


# ---------------------------------------------------------------------------------------------------------------- bars
def _memory(members: Sequence[Series], task: str, prefix: str, most: int, language: str) -> Iterator[SweepFigure]:
    splits = {id(one): _split(_largest(one.run, "memory_weights_mib")) for one in members}
    known = [one for one in members if splits[id(one)]]
    shown = selection.choose(known, MOST_BARS)
    if shown:
        parts = {part: translate(part, language) for part in ("weights", "activations", "libraries")}
        figure = _bars([(one.name, splits[id(one)]) for one in shown], parts, "MiB")
        yield SweepFigure("memory", task, figure, len(shown), len(known))


def _stages(members: Sequence[Series], task: str, prefix: str, most: int, language: str) -> Iterator[SweepFigure]:
    steps = {}
    for one in members:
        values = drawing.values(_largest(one.run, "pipeline_serial_ms"))
        known = {step: values.get(f"pipeline_{step}_ms") for step in PIPELINE_STEPS}
        steps[id(one)] = {step: value for step, value in known.items() if value is not None}
    available = [one for one in members if steps[id(one)]]
    shown = selection.choose(available, MOST_BARS)
    if shown:
        names = {step: step for step in PIPELINE_STEPS}
        figure = _bars([(one.name, steps[id(one)]) for one in shown], names, translate("ms a batch", language))
        yield SweepFigure("stages", task, figure, len(shown), len(available))


def _bars(bars: Sequence[tuple[str, Mapping[str, float]]], parts: Mapping[str, str], label: str) -> Figure:
    """Draw one horizontal bar per run with its parts in order; the name of the run is above its bar."""
    figure, axes = drawing.new_figure((SIZE[0], BAR_MARGIN + BAR_INCHES * len(bars)))
    left = np.zeros(len(bars))
    entries = []
    for index, (part, title) in enumerate(parts.items()):
        widths = np.array([values.get(part, 0.0) for _, values in bars])
        if not widths.any():
            continue
        colour = SERIES[index % len(SERIES)]
        drawn = axes.barh(
            range(len(bars)),
            widths,
            left=left,
            color=colour,
            height=0.42,
            edgecolor=PAPER,
            lw=0.6,
            hatch=HATCHES[index],
        )
        for patch, (name, values) in zip(drawn, bars, strict=True):
            drawing.add_tip(patch, f"{name}: {title} {values.get(part, 0.0):,.4g}")
        entries.append((drawn[0], title))
        left = left + widths
    for position, (name, _) in enumerate(bars):
        axes.text(0, position - 0.27, shorten(name, LONGEST_NAME + 14), fontsize=LEGEND_SIZE, va="bottom", ha="left")
    axes.set_yticks([])
    axes.set_ylim(len(bars) - 0.6, -0.85)
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.grid(axis="x", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    drawing.legend_below(figure, entries)
    return figure


# ------------------------------------------------------------------------------------------------------------- roofline
def _roofline(members: Sequence[Series], task: str, prefix: str, most: int, language: str) -> Iterator[SweepFigure]:
    known = [one for one in members if any(_roofline_numbers(row) for row in one.run.timed)]
    shown = selection.choose(known, most)
    if not shown:
        return
    figure, axes = drawing.new_figure(SIZE)
    measured = [(one, row, numbers) for one in shown for row in one.run.timed if (numbers := _roofline_numbers(row))]
    intensities = [numbers[0] for _, _, numbers in measured]
    axis = np.geomspace(min(intensities) / 4, max(intensities) * 4, 50)
    roofs: dict[str, list[Sequence[float]]] = {}
    for one, _, numbers in measured:
        roofs.setdefault(f"{one.run.record.plan.precision}, {one.run.facts()['device_name']}", []).append(numbers)
    entries = []
    for (name, numbers_of_roof), style in zip(roofs.items(), LINES * len(roofs), strict=False):
        ceiling = max(numbers[2] for numbers in numbers_of_roof)
        copy = max(numbers[3] for numbers in numbers_of_roof)
        (line,) = axes.plot(axis, np.minimum(ceiling, axis * copy / 1e3), color=SOFT, lw=1.2, ls=style)
        entries.append((line, shorten(name, LONGEST_NAME)))
    for one, row, (intensity, achieved, _, _) in measured:
        (mark,) = axes.plot([intensity], [achieved], ls="none", ms=5, **_marks(one)[row.validity.verdict])
        tip = translate("tip of case", language, name="{}", unit="TFLOP/s")
        values = {"batch": row.case.batch_size, "value": f"{achieved:.4g}", "verdict": row.validity.verdict}
        drawing.add_tip(mark, tip.format(one.name, **values))
    axes.set(xscale="log", yscale="log", xlabel=translate("intensity", language), ylabel=translate("rate", language))
    drawing.plain_log_ticks(axes.xaxis, [float(value) for value in axis])
    drawing.plain_log_ticks(axes.yaxis, [value for line in axes.lines for value in np.asarray(line.get_ydata(), float)])
    drawing.grid(axes)
    verdicts = {row.validity.verdict for _, row, _ in measured}
    drawing.legend_below(figure, [*_identities(shown), *verdict_entries(verdicts, language), *entries])
    yield SweepFigure("roofline", task, figure, len(shown), len(known))


def _roofline_numbers(row: CaseResult) -> list[float]:
    """Return the numbers of a point of the roofline, or an empty list if one of them is missing."""
    numbers = [value for name in ROOFLINE if (value := drawing.values(row).get(name)) is not None]
    return numbers if len(numbers) == len(ROOFLINE) else []


# ------------------------------------------------------------------------------------------------------------- details
def _points(one: Series, metric: str) -> list[tuple[CaseResult, float]]:
    return drawing.points(one.run.timed, metric)


def _rows(one: Series, metric: str) -> list[CaseResult]:
    return [row for row, _ in _points(one, metric)]


def _marks(one: Series) -> dict[str, dict[str, Any]]:
    return drawing.marks(one.style.colour, shape=one.style.shape)


def symbol(one: Series, line: bool = False) -> Artist:
    """Return the mark of a run for a legend, with or without its line."""
    style = one.style
    return drawing.symbol(color=style.colour, marker=style.shape, ms=5.5, lw=1.4, ls=style.line if line else "none")


def verdict_entries(verdicts: Collection[str], language: str) -> list[tuple[Artist, str]]:
    """Return the entries of a legend for the verdicts of these points; none if all points are valid."""
    if set(verdicts) <= {VALID}:
        return []
    marks = drawing.marks(SOFT)
    return [
        (drawing.symbol(ls="none", ms=5.5, **marks[verdict]), translate(f"is {verdict}", language))
        for verdict in (VALID, WARNED, INVALID)
        if verdict in verdicts
    ]


def _split(row: CaseResult | None) -> dict[str, float]:
    """Split the peak memory of a case, in MiB, into weights, activations, and libraries of the process."""
    values = drawing.values(row)
    weights = values.get("memory_weights_mib")
    allocated, process = values.get("memory_peak_allocated_mib"), values.get("memory_process_peak_mib")
    if weights is None or (allocated is None and process is None):
        return {}
    if allocated is not None:
        return {"weights": weights, "activations": max(allocated - weights, 0.0)}
    above = max(values.get("memory_process_above_model_mib") or 0.0, 0.0)
    return {"weights": weights, "activations": above, "libraries": max((process or 0.0) - weights - above, 0.0)}


def _largest(run: Run, name: str) -> CaseResult | None:
    """Return the case of the largest batch size that has the metric."""
    rows = [row for row in run.timed if drawing.values(row).get(name) is not None]
    return rows[-1] if rows else None


def _has_calls(run: Run) -> bool:
    """Return whether a run has raw latencies of a case."""
    return any(len(_host_ms(run, row)) for row in run.timed)


def _spread(sizes: Sequence[int], most: int) -> set[int]:
    """Return at most `most` of these batch sizes, evenly spread, the first and the last one included."""
    if len(sizes) <= most:
        return set(sizes)
    return {sizes[round(index * (len(sizes) - 1) / (most - 1))] for index in range(most)}


def _host_ms(run: Run, row: CaseResult) -> np.ndarray:
    """Return the raw latencies of a case in ms; those of the first process if several processes measured the run."""
    if run.folder is None or row.status != OK:
        return np.empty(0)
    return run.samples_of_first_process(row.case.id).get("latency/host_s") * 1e3
