"""Functions that all figures share: style, axes, curves with marks and intervals, legends, and writing to files.

Figures are drawn without pyplot, so that they need neither a display nor global state.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench.core import INVALID, OK, VALID, WARNED, CaseResult
from visionbench.records import atomic

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#666666"
"""Colours of Okabe and Ito's palette, which readers with any form of colour blindness can distinguish."""
THEME: Mapping[str, tuple[str, str]] = {
    "ink": ("#1c1f24", "#e6e8eb"),
    "soft": ("#5b6470", "#a3adb8"),
    "line": ("#dfe3e7", "#343b44"),
    "paper": ("#ffffff", "#14171b"),
    "series-1": ("#0072b2", "#56b4e9"),
    "series-2": ("#d55e00", "#ff9248"),
    "series-3": ("#008a64", "#3ddc97"),
    "series-4": ("#aa4499", "#e78ac3"),
    "series-5": ("#8c6d00", "#e6c229"),
    "series-6": ("#332288", "#a79bff"),
    "series-7": ("#2e8fb8", "#8ce0f2"),
    "series-8": ("#882255", "#f2789f"),
}
"""The colours by name, on a light and on a dark background. PNG files have the light ones; the page has both.

The colours of series are those of Okabe and Ito and of Paul Tol, which readers with any form of colour blindness can
distinguish, darkened or lightened to a contrast of at least 3:1.
"""
INK, SOFT, GRID, PAPER = (THEME[name][0] for name in ("ink", "soft", "line", "paper"))
SERIES = tuple(light for name, (light, _) in THEME.items() if name.startswith("series-"))
CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti TC",
    "STHeiti",
    "Microsoft YaHei",
    "SimHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Noto Sans CJK JP",
    "Noto Serif CJK SC",
    "Noto Serif CJK JP",
    "Droid Sans Fallback",
    "Arial Unicode MS",
)
"""Fonts with Chinese characters. matplotlib reads only the first font of a collection, which for Noto is the Japanese
one."""
CHINESE_FILES = re.compile(
    r"cjk|notosanssc|sourcehansans|pingfang|heiti|hiragino|msyh|simhei|wqy|droidsansfallback", re.I
)
"""The names of files that may contain one of these fonts."""
CHINESE_PACKAGE = "apt-get install fonts-noto-cjk"
LATIN_FONT = "DejaVu Sans"
"""The font that matplotlib contains, so that figures are the same on every machine. It is wider than most other fonts,
so labels that fit in this font also fit in the font of the page."""
SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "visionbench",
    "axes.unicode_minus": False,
    "text.parse_math": False,  # a name may contain dollar signs
}
TIP = "tip:"
"""The beginning of an artist's id that contains a tooltip."""
MOST_DECADES = 2
"""A logarithmic axis over fewer decades also has ticks within a decade."""
MOST_TICKS = 14
"""The most batch sizes with a tick."""
DPI = 110
LEGEND_SIZE, ROW_INCHES = 8, 0.17
LEGEND_COLUMNS = ((4, 9), (3, 15), (2, 28))
"""Numbers of columns of a legend, each with the most characters of a label."""

Points = Sequence[tuple[CaseResult, float]]
"""Cases, each with its value of a metric."""


@contextmanager
def styled(language: str = "en") -> Iterator[None]:
    """Use the style of the report's figures for texts in a language; restore matplotlib's own settings afterwards.

    A missing font causes no error, because the text of an SVG is drawn by the program that shows it.
    """
    import matplotlib

    chinese = chinese_font() if language == "zh" else _known_chinese_font()
    fonts = [LATIN_FONT, *([chinese] if chinese else [])]
    with matplotlib.rc_context({**SETTINGS, "font.sans-serif": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


@lru_cache(maxsize=1)
def chinese_font() -> str | None:
    """Return the name of an installed font with Chinese characters, or None if there is none.

    matplotlib's list of fonts lacks fonts that were installed after the list was made, so their files are read here.
    """
    from matplotlib import font_manager

    if name := _known_chinese_font():
        return name
    for path in font_manager.findSystemFonts():
        if CHINESE_FILES.search(Path(path).name):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    font_manager.fontManager.addfont(path)
                except (OSError, RuntimeError):
                    continue
    return _known_chinese_font()


def _known_chinese_font() -> str | None:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CHINESE_FONTS if name in installed), None)


def new_figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches, and its only axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def add_tip(artist: Artist, text: str) -> None:
    """Give an artist a tooltip, which the SVG of the page shows while the mouse is over the artist."""
    artist.set_gid(TIP + text)


# --------------------------------------------------------------------------------------------------------------- values
def values(row: CaseResult | None) -> Mapping[str, float | None]:
    """Return the metrics of a case; none for a case without numbers."""
    return row.metrics.values if row is not None and row.status == OK else {}


def points(rows: Sequence[CaseResult], metric: str) -> list[tuple[CaseResult, float]]:
    """Return the cases that have a value of the metric, each with the value."""
    return [(row, value) for row in rows if (value := values(row).get(metric)) is not None]


# --------------------------------------------------------------------------------------------------------------- curves
def marks(colour: Any, invalid: Any = None, shape: str = "o") -> dict[str, dict[str, Any]]:
    """Return the mark of a point by its verdict: filled if valid, hollow if questionable, a cross if invalid."""
    return {
        VALID: {"marker": shape, "color": colour},
        WARNED: {"marker": shape, "color": colour, "markerfacecolor": PAPER},
        INVALID: {"marker": "X", "color": colour if invalid is None else invalid},
    }


def curve(
    axes: Axes,
    shown: Points,
    line: Mapping[str, Any],
    marks: Mapping[str, Mapping[str, Any]],
    ends: tuple[str, str] | None = None,
    interval: Mapping[str, Any] | None = None,
    tip: str = "",
) -> None:
    """Draw a line over batch sizes or loads, a mark for each point by its verdict, and the interval of these metrics.

    With `tip`, the tooltip of each mark has this text and the values of the point.
    """
    axes.plot([position(row) for row, _ in shown], [value for _, value in shown], **line)
    for row, value in shown:
        size = position(row)
        low, high = (values(row).get(end) for end in ends) if ends else (None, None)
        if low is not None and high is not None:
            draw_interval(axes, size, (low, high), **{"color": line["color"], **(interval or {})})
        (mark,) = axes.plot([size], [value], ls="none", **marks[row.validity.verdict])
        if tip:
            add_tip(mark, tip.format(batch=f"{size:.4g}", value=f"{value:,.4g}", verdict=row.validity.verdict))


def position(row: CaseResult) -> float:
    """Return the place of a case on the horizontal axis: its load or its batch size."""
    return float(row.case.batch_size if row.case.offered is None else row.case.offered)


def draw_interval(axes: Axes, x: float, ends: tuple[float, float], **style: Any) -> None:
    """Draw a vertical interval with a bar at each end."""
    axes.plot([x, x], ends, **{"lw": 1, "marker": "_", "markersize": 6, **style})


# ----------------------------------------------------------------------------------------------------------------- axes
def batch_axis(axes: Axes, rows: Sequence[CaseResult]) -> None:
    """Make the x axis logarithmic to base 2, with a tick at each batch size; of many, at the powers of 2."""
    from matplotlib.ticker import NullLocator

    sizes = sorted({row.case.batch_size for row in rows})
    if len(sizes) > MOST_TICKS:
        sizes = [size for size in sizes if size & (size - 1) == 0 or size == sizes[-1]][-MOST_TICKS:]
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


def legend_below(figure: Figure, entries: Sequence[tuple[Artist, str]], title: str = "") -> None:
    """Put a legend below the axes, and make the figure higher by the height of the legend."""
    if not entries:
        return
    longest = max(len(label) for _, label in entries)
    columns = next((count for count, most in LEGEND_COLUMNS if longest <= most), 1)
    rows = -(-len(entries) // columns) + bool(title)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + ROW_INCHES * rows + 0.1)
    handles, labels = zip(*entries, strict=True)
    figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=columns,
        fontsize=LEGEND_SIZE,
        title=title or None,
        title_fontsize=LEGEND_SIZE,
        alignment="left",
        frameon=False,
        borderpad=0.2,
        handlelength=2.4,
    )


def symbol(**style: Any) -> Artist:
    """Return a line or a mark for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **style)


# ---------------------------------------------------------------------------------------------------------------- files
def write_png(figure: Figure, path: Path) -> None:
    """Write a PNG file with the same bytes for the same figure. It is drawn once; `savefig` draws twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})  # type: ignore[no-untyped-call]
    atomic.write(path, buffer.getvalue())


def svg(figure: Figure) -> bytes:
    """Return the figure as SVG, without a date and without the XML prologue."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return re.sub(rb"^.*?(?=<svg)", b"", buffer.getvalue(), count=1, flags=re.DOTALL)
