"""Figures of a run, drawn without pyplot, so that neither a display nor a global state is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench.core import INVALID, OK, VALID, WARNED, CaseResult, Reason
from visionbench.results import summary

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#666666"
"""Of Okabe and Ito's palette, told apart in every form of colour blindness."""
MARKERS: Mapping[str, dict[str, Any]] = {
    VALID: {"marker": "o", "color": BLUE, "label": "valid"},
    WARNED: {"marker": "o", "color": BLUE, "markerfacecolor": "white", "label": "warned: to be doubted"},
    INVALID: {"marker": "X", "color": VERMILLION, "markersize": 8, "label": "invalid: not to be trusted"},
}
INTERVAL = "95 % interval of the median, {}"
LONGEST_PROTOCOL, WIDEST_DOUBTS = 60, 100
"""In characters; the second is what a line of a figure holds."""
MOST_NAMED_CLASSES, WORST_PAIRS = 30, 5


def throughput_latency(conditions: Mapping[str, Any], results: Sequence[CaseResult]) -> Figure:
    """Throughput and median latency of a run over its batch sizes, doubtful points and failed sizes marked."""
    from matplotlib.figure import Figure

    timed = [row for row in results if row.case.timed]
    throughput = summary.throughput_name(timed)
    figure = Figure(figsize=(9, 4.2), dpi=110)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.08, right=0.98, top=0.76, bottom=0.22, wspace=0.22)
    _curve(left, timed, throughput, None)
    left.set(ylabel=f"throughput ({summary.unit(throughput)})")
    left.set_ylim(bottom=0, top=left.get_ylim()[1] * 1.05)
    ends = summary.latency_ends(bool(conditions.get("repeats")))
    _curve(right, timed, summary.LATENCY, ends)
    right.set(ylabel="latency of a batch, p50 (ms)")
    _log_latency(right, [_value(row, name) for row in timed for name in (summary.LATENCY, *ends)])
    for axes in (left, right):
        _batch_axis(axes, timed)
    _titles(figure, conditions, timed)
    return figure


def confusion_matrix(
    conditions: Mapping[str, Any], classes: Sequence[str], truth: np.ndarray, predicted: np.ndarray
) -> Figure:
    """What pictures of each class (rows, by index) were taken for (columns): counts, coloured by share of the row.

    Up to 30 classes with names and counts; of more, colours alone, and the pairs most often confused in words.
    """
    from matplotlib.figure import Figure

    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth.astype(int), predicted.astype(int)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(classes) <= MOST_NAMED_CLASSES
    side = max(4.5, 0.42 * len(classes) + 2.2) if few else 8
    figure = Figure(figsize=(side, side + 0.9), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="predicted", ylabel="truth")
    if few:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=colour)
            text.set_in_layout(False)  # it stands within the picture; to leave room for it would take a while
    else:
        wrong = counts * ~np.eye(len(classes), dtype=bool)
        worst = [np.unravel_index(at, wrong.shape) for at in np.argsort(wrong, axis=None)[::-1][:WORST_PAIRS]]
        pairs = [f"{classes[r]} taken for {classes[c]}: {wrong[r, c]}" for r, c in worst if wrong[r, c]]
        axes.set_title("\n".join(pairs), fontsize=8, loc="left")
    right = float(np.trace(counts)) / max(int(counts.sum()), 1)
    axes.spines[:].set_visible(False)
    heading = f"{conditions['plan']['name']}\n{int(counts.sum())} pictures, {right:.1%} on the diagonal"
    figure.suptitle(heading, fontsize=12, weight="bold")
    return figure


def write_png(figure: Figure, path: Path) -> None:
    """The same bytes each time; drawn once, where `savefig` draws twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})  # type: ignore[no-untyped-call]


def _curve(axes: Axes, timed: Sequence[CaseResult], name: str, interval: tuple[str, str] | None) -> None:
    """A line through the sizes that have the metric, each marked by its verdict, with its interval where known."""
    points = [(row, value) for row in timed if (value := _value(row, name)) is not None]
    axes.plot([row.case.batch_size for row, _ in points], [value for _, value in points], color=BLUE, lw=1.5)
    for row, value in points:
        size = row.case.batch_size
        low, high = (_value(row, end) for end in interval) if interval else (None, None)
        label = INTERVAL.format("across processes" if interval and "across" in interval[0] else "within this process")
        if low is not None and high is not None:
            axes.plot([size, size], [low, high], color=BLUE, lw=1.5, marker="_", markersize=9, label=label)
        axes.plot([size], [value], ls="none", **{"markersize": 6, **MARKERS[row.validity.verdict]})
    if not points:
        axes.text(0.5, 0.5, "no value", transform=axes.transAxes, ha="center", va="center", color=GREY)
        axes.set_yticks([])


def _batch_axis(axes: Axes, timed: Sequence[CaseResult]) -> None:
    """A base-2 axis with a tick at each size, and a dotted line where a size has no numbers."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log", base=2)
    sizes = [row.case.batch_size for row in timed]
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    if sizes:
        axes.set_xlim(min(sizes) / 1.4, max(sizes) * 1.4)
    for row in timed:
        if row.status != OK:
            axes.axvline(row.case.batch_size, color=VERMILLION, ls=":", lw=1)
            text = axes.text(row.case.batch_size, 0.5, row.status.replace("_", " "), color=VERMILLION, fontsize=8)
            text.set(rotation=90, ha="right", va="center", transform=axes.get_xaxis_transform())
    axes.set_xlabel("batch size")
    axes.grid(color="#dddddd", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _log_latency(axes: Axes, values: Sequence[float | None]) -> None:
    """A log axis in plain numbers; ticks within a decade only where the values span little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    known = [value for value in values if value]
    if not known:
        return
    axes.set_yscale("log")
    few = max(known) / min(known) < 100
    axes.set_ylim(min(known) / 1.5, max(known) * 1.5)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _titles(figure: Figure, conditions: Mapping[str, Any], timed: Sequence[CaseResult]) -> None:
    """The run's name, its conditions, and in a colour of its own what is to be doubted; a legend of marks in use."""
    device, host = conditions.get("device", {}), conditions.get("host", {})
    parts = [
        device.get("device_name", conditions["plan"]["device"]),
        conditions["plan"]["precision"],
        shorten(f"protocol {conditions['plan']['protocol']}", LONGEST_PROTOCOL, placeholder=" …"),
        f"{device['threads']} threads" if device.get("threads") else "",
        f"driver {device['driver']}" if device.get("driver") else "",
        f"torch {host['torch']}" if host.get("torch") else "",
    ]
    figure.text(0.08, 0.935, conditions["plan"]["name"], fontsize=13, weight="bold")
    figure.text(0.08, 0.88, " · ".join(filter(None, parts)), fontsize=9, color=GREY)
    judged = [row.validity for row in timed if row.status == OK and row.validity.reasons]
    kinds = {verdict: _kinds(one.reasons for one in judged if one.verdict == verdict) for verdict in (INVALID, WARNED)}
    doubts = "; ".join(f"{verdict}: {', '.join(found)}" for verdict, found in kinds.items() if found)
    figure.text(0.08, 0.80, fill(doubts, WIDEST_DOUBTS), fontsize=9, color=VERMILLION, weight="bold")
    marks = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if marks:
        figure.legend(list(marks.values()), list(marks), loc=(0.07, 0.01), ncols=4, fontsize=8, frameon=False)


def _kinds(reasons: Iterable[Sequence[Reason]]) -> list[str]:
    """Return the kinds of these reasons, each once."""
    return list(dict.fromkeys(reason.kind for of_case in reasons for reason in of_case))


def _value(row: CaseResult, name: str) -> float | None:
    return row.metrics.values.get(name) if row.status == OK else None
