"""Figures of a complete sweep for the report. A model has the same colour in all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench.core import OK, PIPELINE_STEPS, VALID, CaseResult, MetricDeclaration
from visionbench.report import advice, drawing
from visionbench.report.drawing import GREY
from visionbench.report.translations import translate
from visionbench.results import summary
from visionbench.results.archive import Run
from visionbench.statistics.resampling import value_with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (5.4, 3.7)
"""Inches: small enough to be readable on the width of a phone."""
STYLES = ("-", "--", ":", "-.")
MOST_CURVES, MOST_BARS = 12, 24
ROOFLINE = (
    "flops_intensity_flop_per_byte",
    "flops_achieved_tflop_per_s",
    "flops_ceiling_tflop_per_s",
    "flops_copy_gb_per_s",
)
"""The metrics that a point of the roofline needs."""


def colours(runs: Sequence[Run]) -> dict[str, Any]:
    """Return a colour for each model from seaborn's colour-blind safe palette. It has ten colours, then they repeat."""
    import seaborn

    models = sorted({run.model for run in runs})
    return dict(zip(models, seaborn.color_palette("colorblind", len(models)), strict=True))


def figures(runs: Sequence[Run], language: str) -> Iterator[tuple[str, str, Figure]]:
    """Yield every figure for which the results have numbers: its section, its caption, and the figure."""
    drawn = [run for run in runs if any(row.status == OK for row in run.results)][:MOST_CURVES]
    with drawing.styled():
        palette = colours(runs)
        yield from _curves(drawn, palette, language)
        yield from _distributions(drawn, language)
        yield from _memory(drawn, language)
        yield from _tradeoffs(runs, palette, language)
        yield from _stages(drawn, language)
        yield from _roofline(drawn, palette, language)


# ------------------------------------------------------------------------------------------------------------ figures
def _curves(runs: Sequence[Run], palette: Mapping[str, Any], language: str) -> Iterator[tuple[str, str, Figure]]:
    timed = [run for run in runs if run.timed]
    name = summary.throughput_name([row for run in timed for row in run.timed])
    unit = summary.unit(name)
    if any(drawing.points(run.timed, name) for run in timed):
        figure, axes = drawing.new_figure(SIZE)
        for index, run in enumerate(timed):
            _line(axes, run, name, palette, _style(index, timed))
        axes.set(ylabel=f"{translate('throughput', language)} ({unit})")
        _log_log(axes, timed, language)
        yield "curves", translate("caption throughput", language), figure
    if any(drawing.points(run.timed, summary.LATENCY) for run in timed):
        figure, axes = drawing.new_figure(SIZE)
        scopes = set()
        for index, run in enumerate(timed):
            across = run.record.repeats is not None
            scopes.add("across processes" if across else "within a process")
            _line(axes, run, summary.LATENCY, palette, _style(index, timed), summary.latency_ends(across))
        axes.set(ylabel=translate("latency, p50 (ms)", language))
        _log_log(axes, timed, language)
        listed = ", ".join(translate(scope, language) for scope in sorted(scopes))
        yield "curves", translate("caption latency", language, kind=listed), figure


def _distributions(runs: Sequence[Run], language: str) -> Iterator[tuple[str, str, Figure]]:
    import seaborn

    for run in runs:
        series = {row.case.batch_size: calls for row in run.timed if len(calls := _host_ms(run, row))}
        if not series:
            continue
        figure, axes = drawing.new_figure((4.2, 2.6))
        shades = seaborn.color_palette("viridis", len(series))
        for (size, values), shade in zip(series.items(), shades, strict=True):
            seaborn.ecdfplot(x=values, ax=axes, color=shade, label=str(size), lw=1.6)
        axes.set(
            xscale="log",
            xlabel=translate("call (ms)", language),
            ylabel=translate("share of calls", language),
            ylim=(0, 1.02),
        )
        drawing.plain_log_ticks(axes.xaxis, [value for values in series.values() for value in values])
        axes.legend(title=translate("batch", language), fontsize=7, title_fontsize=7, frameon=False, loc="lower right")
        drawing.grid(axes)
        yield "distribution", translate("caption distribution", language, name=run.name), figure


def _memory(runs: Sequence[Run], language: str) -> Iterator[tuple[str, str, Figure]]:
    bars = [(run.name, split) for run in runs if (split := _split(_largest(run, "memory_weights_mib")))][:MOST_BARS]
    if not bars:
        return
    figure, axes = drawing.new_figure((5.4, 1.3 + 0.32 * len(bars)))
    _stack(axes, bars, ("weights", "activations", "libraries"), language)
    axes.set_xlabel("MiB")
    yield "memory", translate("caption memory", language), figure


def _tradeoffs(runs: Sequence[Run], palette: Mapping[str, Any], language: str) -> Iterator[tuple[str, str, Figure]]:
    headlines = [(run, headline) for run in runs if (headline := advice.headline(run))]
    metrics = {declaration.name: declaration for _, (declaration, _) in headlines}.values()
    for declaration in sorted(metrics, key=lambda declaration: (declaration.headline, declaration.order)):
        points = []
        for run, (metric, value) in headlines:
            speed = summary.summary(run.results).get(f"best_{summary.throughput_name(run.timed)}")
            if metric.name == declaration.name and speed:
                points.append((run, speed, value))
        if points:
            figure, title = _tradeoff(declaration, points, palette, language), declaration.heading(language)
            yield "tradeoff", translate("caption tradeoff", language, metric=title), figure


def _tradeoff(
    declaration: MetricDeclaration,
    points: Sequence[tuple[Run, float, float]],
    palette: Mapping[str, Any],
    language: str,
) -> Figure:
    """Draw the quality of runs over their throughput, with the intervals and the Pareto front."""
    figure, axes = drawing.new_figure(SIZE)
    front = advice.frontier([(speed, value) for _, speed, value in points])
    axes.plot(*zip(*front, strict=True), color=GREY, lw=1, ls="--", zorder=1)
    for index, (run, speed, value) in enumerate(points):
        axes.plot([speed], [value], "o", ms=7, color=palette[run.model], mfc=_fill(run, palette))
        if (known := value_with_interval(declaration.name, drawing.values(run.quality))) and known[1]:
            drawing.draw_interval(axes, speed, known[1], color=palette[run.model])
        offset = (5.0, 5.0 if index % 2 else -11.0)
        axes.annotate(run.name, (speed, value), xytext=offset, textcoords="offset points", fontsize=7)
    axes.margins(0.25, 0.3)
    if declaration.unit == "fraction":
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.02))
    axes.set(xlabel=translate("throughput", language), ylabel=declaration.heading(language))
    drawing.grid(axes)
    return figure


def _stages(runs: Sequence[Run], language: str) -> Iterator[tuple[str, str, Figure]]:
    bars = []
    for run in runs:
        values = drawing.values(_largest(run, "pipeline_serial_ms"))
        steps = {step: value for step in PIPELINE_STEPS if (value := values.get(f"pipeline_{step}_ms")) is not None}
        if steps:
            bars.append((run.name, steps))
    if not bars:
        return
    figure, axes = drawing.new_figure((5.4, 1.5 + 0.32 * len(bars)))
    _stack(axes, bars, PIPELINE_STEPS, None)
    axes.set_xlabel(translate("ms a batch", language))
    yield "stages", translate("caption stages", language), figure


def _roofline(runs: Sequence[Run], palette: Mapping[str, Any], language: str) -> Iterator[tuple[str, str, Figure]]:
    measured: list[tuple[Run, list[float]]] = []
    for run in runs:
        for row in run.timed:
            known = [value for name in ROOFLINE if (value := drawing.values(row).get(name)) is not None]
            if len(known) == len(ROOFLINE):
                measured.append((run, known))
    if not measured:
        return
    figure, axes = drawing.new_figure(SIZE)
    intensities = [intensity for _, (intensity, *_) in measured]
    axis = np.geomspace(min(intensities) / 4, max(intensities) * 4, 100)
    roofs: dict[tuple[str, str], list[Any]] = {}
    for run, numbers in measured:
        key = (run.facts()["device_name"], run.record.plan.precision)
        roofs.setdefault(key, []).append(numbers)
    for (device, precision), roof_numbers, style in zip(roofs, roofs.values(), STYLES * len(roofs), strict=False):
        ceiling = max(ceiling for _, _, ceiling, _ in roof_numbers)
        copy = max(copy for _, _, _, copy in roof_numbers)
        roof = np.minimum(ceiling, axis * copy / 1e3)
        axes.plot(axis, roof, color=GREY, lw=1.2, ls=style, label=f"{precision}, {device}")
    labelled: set[str] = set()
    for run, (intensity, achieved, _, _) in measured:
        label = run.model if run.model not in labelled else None
        labelled.add(run.model)
        axes.plot([intensity], [achieved], "o", ms=5, color=palette[run.model], label=label)
    axes.set(xscale="log", yscale="log", xlabel=translate("intensity", language), ylabel=translate("rate", language))
    drawing.grid(axes)
    drawing.legend_above(axes)
    yield "roofline", translate("caption roofline", language), figure


# ------------------------------------------------------------------------------------------------------------- details
def _line(
    axes: Axes, run: Run, metric: str, palette: Mapping[str, Any], style: str, ends: tuple[str, str] | None = None
) -> None:
    """Draw the curve of a run. Filled marks are valid, hollow marks are warned, crosses are invalid."""
    shown, colour = drawing.points(run.timed, metric), palette[run.model]
    line = {"color": colour, "ls": style, "lw": 1.4, "label": run.name if shown else None}
    marks = {verdict: {**mark, "markersize": 5.5} for verdict, mark in drawing.marks(colour).items()}
    drawing.curve(axes, shown, line, marks, ends)


def _style(index: int, runs: Sequence[Run]) -> str:
    """Return a different style of line for each run of the same model."""
    return STYLES[sum(other.model == runs[index].model for other in runs[:index]) % len(STYLES)]


def _log_log(axes: Axes, runs: Sequence[Run], language: str) -> None:
    """Format the axes of curves over batch size, both logarithmic."""
    drawing.batch_axis(axes, [row for run in runs for row in run.timed])
    axes.set_yscale("log")
    drawing.plain_log_ticks(axes.yaxis, [value for line in axes.lines for value in np.asarray(line.get_ydata(), float)])
    axes.set_xlabel(translate("batch size", language))
    drawing.grid(axes)
    drawing.legend_above(axes)


def _stack(
    axes: Axes, bars: Sequence[tuple[str, Mapping[str, float]]], parts: Sequence[str], language: str | None
) -> None:
    """Draw one horizontal bar per run with its parts in order; translate their names if a language is given."""
    import seaborn

    left = np.zeros(len(bars))
    for part, colour in zip(parts, seaborn.color_palette("colorblind", len(parts)), strict=True):
        widths = np.array([values.get(part, 0.0) for _, values in bars])
        if widths.any():
            label = translate(part, language) if language else part
            axes.barh(range(len(bars)), widths, left=left, color=colour, label=label, height=0.7)
            left = left + widths
    axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=7)
    axes.invert_yaxis()
    drawing.legend_above(axes)


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


def _host_ms(run: Run, row: CaseResult) -> np.ndarray:
    """Return the raw latencies of a case in ms; those of the first process if several processes measured the run."""
    if run.folder is None or row.status != OK:
        return np.empty(0)
    first = run.folder.path / "repeats" / "1"
    folder = type(run.folder)(first) if first.is_dir() else run.folder
    return folder.samples(row.case.id).get("latency/host_s") * 1e3


def _fill(run: Run, palette: Mapping[str, Any]) -> Any:
    return palette[run.model] if summary.verdict(run.results) == VALID else "white"
