"""The figure of a search of `visionbench tune`: latency over throughput of all measurements, with the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from visionbench.core import VALID
from visionbench.records.tuning import Measurement, TuneRecord
from visionbench.report import drawing, labels, tuning
from visionbench.report.drawing import SERIES, SOFT
from visionbench.report.labels import Target, shorten
from visionbench.report.sweep_figures import LONGEST_NAME, SIZE, WIDE_RANGE, SweepFigure, verdict_entries
from visionbench.report.translations import translate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARGIN = 1.25
"""The factor between the outermost points and the ends of a logarithmic axis."""


def draw(record: TuneRecord, language: str) -> SweepFigure | None:
    """Return the figure, or None if fewer than two measurements have numbers."""
    points = tuning.measured(record)
    if len(points) < 2:
        return None
    figure, axes = drawing.new_figure(SIZE)
    runtimes = list(dict.fromkeys(combination["runtime"] for combination, _ in points))
    colours = {runtime: SERIES[index % len(SERIES)] for index, runtime in enumerate(runtimes)}
    for combination, one in points:
        x, y = _place(one)
        style = drawing.marks(colours[combination["runtime"]])[one.verdict]
        (mark,) = axes.plot([x], [y], ls="none", ms=6, **style)
        text = f"{tuning.name(combination)}, {translate('batch', language)} {one.batch_size}"
        drawing.add_tip(mark, f"{text}: {x:,.4g} /s, p50 {y:,.4g} ms ({one.verdict})")
    front = tuning.front(record)
    line = [_place(one) for _, one in front]
    axes.plot(*zip(*line, strict=True), color=SOFT, lw=1, ls="--", zorder=1)
    _scale(axes, [_place(one) for _, one in points])
    axes.set(xlabel=f"{translate('throughput', language)} (images/s)", ylabel=translate("latency, p50 (ms)", language))
    drawing.grid(axes)
    entries = [(drawing.symbol(ls="none", **drawing.marks(colours[name])[VALID]), name) for name in runtimes]
    verdicts = {one.verdict for _, one in points}
    drawing.legend_below(figure, [*entries, *verdict_entries(verdicts, language)])
    targets = [
        Target(
            *_place(one),
            shorten(f"{_label(combination)}, {translate('batch', language)} {one.batch_size}", LONGEST_NAME),
            colours[combination["runtime"]],
        )
        for combination, one in reversed(front)
    ]
    labels.place(axes, targets, [_place(one) for _, one in points], list(zip(line, line[1:], strict=False)))
    title = f"{record.model} · {record.id}"
    return SweepFigure("tuning front", title, figure, len(points), len(points), translate("front note", language))


def _label(combination: Mapping[str, str]) -> str:
    """Return the name of a configuration without its runtime, which the colour shows."""
    return tuning.name(combination).replace(f" · {combination['runtime']}", "", 1)


def _place(one: Measurement) -> tuple[float, float]:
    assert one.throughput and one.p50
    return one.throughput.value, one.p50.value


def _scale(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Make an axis logarithmic if its values span a wide range."""
    for values, axis, set_scale, set_limits in (
        ([x for x, _ in points], axes.xaxis, axes.set_xscale, axes.set_xlim),
        ([y for _, y in points], axes.yaxis, axes.set_yscale, axes.set_ylim),
    ):
        low, high = min(values), max(values)
        if high / low > WIDE_RANGE:
            set_scale("log")
            set_limits(low / MARGIN, high * MARGIN)
            drawing.plain_log_ticks(axis, values)
        else:
            margin = 0.15 * (high - low) or 0.1 * high
            set_limits(max(0.0, low - margin), high + margin)
