"""Figures of one run for its MLflow page: throughput and latency over batch size, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill, shorten
from typing import TYPE_CHECKING

import numpy as np

from visionbench.core import AUTO, INVALID, OK, VALID, WARNED, CaseResult, Reason
from visionbench.records.record import RunRecord
from visionbench.report import drawing
from visionbench.report.drawing import BLUE, GREY, VERMILLION
from visionbench.results import summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {VALID: "valid", WARNED: "warned: questionable", INVALID: "invalid"}
LONGEST_PROTOCOL = 60
"""Characters of the protocol that are shown."""
LONGEST_LINE = 100
"""Characters that fit on a line of the figure."""
MOST_NAMED_CLASSES, WORST_PAIRS = 30, 5


def throughput_latency(record: RunRecord, results: Sequence[CaseResult]) -> Figure:
    """Draw throughput and median latency over batch size; mark questionable points and sizes without numbers."""
    from matplotlib.figure import Figure

    timed = [row for row in results if row.case.timed and row.case.id != AUTO]
    throughput = summary.throughput_name(timed)
    figure = Figure(figsize=(9, 4.2), dpi=drawing.DPI)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.08, right=0.98, top=0.76, bottom=0.22, wspace=0.22)
    _curve(left, timed, throughput)
    left.set(ylabel=f"throughput ({summary.unit(throughput)})")
    left.set_ylim(bottom=0, top=left.get_ylim()[1] * 1.05)
    across = record.repeats is not None
    ends = summary.latency_ends(across)
    _curve(right, timed, summary.LATENCY, ends, "across processes" if across else "within this process")
    right.set(ylabel="latency of a batch, p50 (ms)")
    latencies = [value for name in (summary.LATENCY, *ends) for _, value in drawing.points(timed, name) if value]
    if latencies:
        right.set_yscale("log")
        right.set_ylim(min(latencies) / 1.5, max(latencies) * 1.5)
        drawing.plain_log_ticks(right.yaxis, latencies)
    for axes in (left, right):
        _batch_axis(axes, timed)
    _titles(figure, record, timed)
    return figure


def confusion_matrix(record: RunRecord, classes: Sequence[str], truth: np.ndarray, predicted: np.ndarray) -> Figure:
    """Draw the number of images of each class (rows) that were predicted as each class, coloured by share of the row.

    Up to 30 classes have names and counts. With more classes, the title lists the pairs that were confused most often.
    """
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth.astype(int), predicted.astype(int)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(classes) <= MOST_NAMED_CLASSES
    side = max(4.5, 0.42 * len(classes) + 2.2) if few else 8
    figure, axes = drawing.new_figure((side, side + 0.9))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="predicted", ylabel="truth")
    if few:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=colour)
            text.set_in_layout(False)  # it is inside the axes; a layout with all of these texts is slow
    else:
        wrong = counts * ~np.eye(len(classes), dtype=bool)
        worst = [np.unravel_index(index, wrong.shape) for index in np.argsort(wrong, axis=None)[::-1][:WORST_PAIRS]]
        pairs = [f"{classes[r]} predicted as {classes[c]}: {wrong[r, c]}" for r, c in worst if wrong[r, c]]
        axes.set_title("\n".join(pairs), fontsize=8, loc="left")
    right = float(np.trace(counts)) / max(int(counts.sum()), 1)
    axes.spines[:].set_visible(False)
    heading = f"{record.plan.name}\n{int(counts.sum())} images, {right:.1%} on the diagonal"
    figure.suptitle(heading, fontsize=12, weight="bold")
    return figure


def _curve(
    axes: Axes, timed: Sequence[CaseResult], metric: str, ends: tuple[str, str] | None = None, scope: str = ""
) -> None:
    """Draw the curve of a metric, or the words "no value" if no batch size has one."""
    shown = drawing.points(timed, metric)
    sizes = {VALID: 6, WARNED: 6, INVALID: 8}
    marks = {
        verdict: {**mark, "markersize": sizes[verdict], "label": LABELS[verdict]}
        for verdict, mark in drawing.marks(BLUE, invalid=VERMILLION).items()
    }
    interval = {"lw": 1.5, "markersize": 9, "label": f"95 % interval of the median, {scope}"}
    drawing.curve(axes, shown, {"color": BLUE, "lw": 1.5}, marks, ends, interval)
    if not shown:
        axes.text(0.5, 0.5, "no value", transform=axes.transAxes, ha="center", va="center", color=GREY)
        axes.set_yticks([])


def _batch_axis(axes: Axes, timed: Sequence[CaseResult]) -> None:
    """Format the axis of batch sizes, with a dotted line and the status at each size without numbers."""
    drawing.batch_axis(axes, timed)
    sizes = [row.case.batch_size for row in timed]
    if sizes:
        axes.set_xlim(min(sizes) / 1.4, max(sizes) * 1.4)
    for row in timed:
        if row.status != OK:
            axes.axvline(row.case.batch_size, color=VERMILLION, ls=":", lw=1)
            text = axes.text(row.case.batch_size, 0.5, row.status.replace("_", " "), color=VERMILLION, fontsize=8)
            text.set(rotation=90, ha="right", va="center", transform=axes.get_xaxis_transform())
    axes.set_xlabel("batch size")
    drawing.grid(axes)
    axes.spines[["top", "right"]].set_visible(False)


def _titles(figure: Figure, record: RunRecord, timed: Sequence[CaseResult]) -> None:
    """Write the name of the run, its conditions and its doubts above the axes, and the legend of the marks below."""
    plan, device, torch = record.plan, record.device, record.host.version("torch")
    parts = [
        device.device_name or plan.device,
        plan.precision,
        shorten(f"protocol {plan.protocol}", LONGEST_PROTOCOL, placeholder=" …"),
        f"{device.threads} threads" if device.threads else "",
        f"driver {device.driver}" if device.driver else "",
        f"torch {torch}" if torch else "",
    ]
    figure.text(0.08, 0.935, plan.name, fontsize=13, weight="bold")
    figure.text(0.08, 0.88, " · ".join(filter(None, parts)), fontsize=9, color=GREY)
    judged = [row.validity for row in timed if row.status == OK and row.validity.reasons]
    kinds = {verdict: _kinds(one.reasons for one in judged if one.verdict == verdict) for verdict in (INVALID, WARNED)}
    doubts = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in kinds.items() if names)
    figure.text(0.08, 0.80, fill(doubts, LONGEST_LINE), fontsize=9, color=VERMILLION, weight="bold")
    marks = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if marks:
        figure.legend(list(marks.values()), list(marks), loc=(0.07, 0.01), ncols=4, fontsize=8, frameon=False)


def _kinds(reasons: Iterable[Sequence[Reason]]) -> list[str]:
    """Return the kinds of these reasons, each once."""
    return list(dict.fromkeys(reason.kind for case_reasons in reasons for reason in case_reasons))
