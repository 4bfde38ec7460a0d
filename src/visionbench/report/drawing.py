"""Functions that all figures share: style, axes, curves with marks and intervals, legends, and writing to files.

Figures are drawn without pyplot, so that they need neither a display nor global state.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

from visionbench.core import INVALID, OK, VALID, WARNED, CaseResult

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#666666"
"""Colours of Okabe and Ito's palette, which readers with any form of colour blindness can distinguish."""
GRID = "#e0e0e0"
FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Micro Hei", "DejaVu Sans")
SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": list(FONTS),
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "visionbench",
    "axes.unicode_minus": False,
}
MOST_DECADES = 2
"""A logarithmic axis over fewer decades also has ticks within a decade."""
DPI = 110

Points = Sequence[tuple[CaseResult, float]]
"""Cases, each with its value of a metric."""


@contextmanager
def styled() -> Iterator[None]:
    """Use the style of the report's figures; restore matplotlib's own settings afterwards.

    A font that is not installed is no error, because the text of an SVG is drawn by the program that shows it.
    """
    import matplotlib
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [name for name in FONTS if name in installed]
    with matplotlib.rc_context({**SETTINGS, "font.sans-serif": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def new_figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches, and its only axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    return figure, figure.subplots()


# --------------------------------------------------------------------------------------------------------------- values
def values(row: CaseResult | None) -> Mapping[str, float | None]:
    """Return the metrics of a case; none for a case without numbers."""
    return row.metrics.values if row is not None and row.status == OK else {}


def points(rows: Sequence[CaseResult], metric: str) -> list[tuple[CaseResult, float]]:
    """Return the cases that have a value of the metric, each with the value."""
    return [(row, value) for row in rows if (value := values(row).get(metric)) is not None]


# --------------------------------------------------------------------------------------------------------------- curves
def marks(colour: Any, invalid: Any = None) -> dict[str, dict[str, Any]]:
    """Return the mark of a point by its verdict: filled if valid, hollow if warned, a cross if invalid."""
    return {
        VALID: {"marker": "o", "color": colour},
        WARNED: {"marker": "o", "color": colour, "markerfacecolor": "white"},
        INVALID: {"marker": "X", "color": colour if invalid is None else invalid},
    }


def curve(
    axes: Axes,
    shown: Points,
    line: Mapping[str, Any],
    marks: Mapping[str, Mapping[str, Any]],
    ends: tuple[str, str] | None = None,
    interval: Mapping[str, Any] | None = None,
) -> None:
    """Draw a line over batch sizes, a mark for each point by its verdict, and the interval between these metrics."""
    axes.plot([row.case.batch_size for row, _ in shown], [value for _, value in shown], **line)
    for row, value in shown:
        size = row.case.batch_size
        low, high = (values(row).get(end) for end in ends) if ends else (None, None)
        if low is not None and high is not None:
            draw_interval(axes, size, (low, high), **{"color": line["color"], **(interval or {})})
        axes.plot([size], [value], ls="none", **marks[row.validity.verdict])


def draw_interval(axes: Axes, x: float, ends: tuple[float, float], **style: Any) -> None:
    """Draw a vertical interval with a bar at each end."""
    axes.plot([x, x], ends, **{"lw": 1, "marker": "_", "markersize": 6, **style})


# ----------------------------------------------------------------------------------------------------------------- axes
def batch_axis(axes: Axes, rows: Sequence[CaseResult]) -> None:
    """Make the x axis logarithmic to base 2, with a tick at each batch size."""
    from matplotlib.ticker import NullLocator

    sizes = sorted({row.case.batch_size for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())


def plain_log_ticks(axis: Any, shown: Sequence[float]) -> None:
    """Label a logarithmic axis with plain numbers; add ticks within a decade if the values span few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    few = len(shown) > 0 and max(shown) / max(min(shown), 1e-12) < 10**MOST_DECADES
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def grid(axes: Axes) -> None:
    """Draw a light grid."""
    axes.grid(color=GRID, lw=0.6)


def legend_above(axes: Axes) -> None:
    """Put a legend of all labels above the axes; draw none if nothing has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = 1 if max(map(len, labels)) > 30 or len(labels) < 3 else 2
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, fontsize=7, frameon=False)


# ---------------------------------------------------------------------------------------------------------------- files
def write_png(figure: Figure, path: Path) -> None:
    """Write a PNG file with the same bytes for the same figure. It is drawn once; `savefig` draws twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})  # type: ignore[no-untyped-call]


def svg(figure: Figure) -> bytes:
    """Return the figure as SVG, without a date and without the XML prologue."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return re.sub(rb"^.*?(?=<svg)", b"", buffer.getvalue(), count=1, flags=re.DOTALL)
