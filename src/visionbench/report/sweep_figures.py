"""Figures of a whole sweep, drawn from results: the same model has the same colour in each of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench.core import INVALID, OK, PIPELINE_STEPS, VALID, CaseResult
from visionbench.report import advice
from visionbench.report.translations import say
from visionbench.results import summary
from visionbench.results.archive import Run
from visionbench.statistics.resampling import stated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (5.4, 3.7)
"""Inches: small enough to be read on a phone's width."""
STYLES = ("-", "--", ":", "-.")
GREY = "#666666"
MOST_CURVES, MOST_BARS = 12, 24
FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Micro Hei", "DejaVu Sans")
RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": list(FONTS),
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "visionbench",
    "axes.unicode_minus": False,
}


def colours(runs: Sequence[Run]) -> dict[str, Any]:
    """A colour for each model, from seaborn's colour-blind safe palette; beyond ten models colours repeat."""
    import seaborn

    models = sorted({run.model for run in runs})
    return dict(zip(models, seaborn.color_palette("colorblind", len(models)), strict=True))


def figures(runs: Sequence[Run], language: str) -> Iterator[tuple[str, str, Figure]]:
    """Every figure that these results give: its section, what stands below it, and the figure."""
    drawn = [run for run in runs if any(row.status == OK for row in run.results)][:MOST_CURVES]
    with styled():
        palette = colours(runs)
        yield from _curves(drawn, palette, language)
        yield from _distributions(drawn, language)
        yield from _memory(drawn, language)
        yield from _tradeoffs(runs, palette, language)
        yield from _stages(drawn, language)
        yield from _roofline(drawn, palette, language)


@contextmanager
def styled() -> Iterator[None]:
    """The look of every figure; matplotlib's own settings are back afterwards. A font that is not here is no matter:
    a page's text is drawn by whoever shows it."""
    import matplotlib
    from matplotlib import font_manager

    here = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [name for name in FONTS if name in here]
    with matplotlib.rc_context({**RC, "font.sans-serif": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


# --------------------------------------------------------------------------------------------------------------- each
def _curves(runs: Sequence[Run], palette: Mapping[str, Any], language: str) -> Iterator[tuple[str, str, Figure]]:
    timed = [run for run in runs if run.timed]
    name = summary.throughput_name([row for run in timed for row in run.timed])
    unit = summary.unit(name)
    if any(_points(run, name) for run in timed):
        figure, axes = _new()
        for at, run in enumerate(timed):
            _line(axes, run, name, palette, _style(at, run, timed), ends=None)
        axes.set(ylabel=f"{say('throughput', language)} ({unit})", xlabel=say("batch size", language))
        _log_log(axes, timed)
        yield "curves", say("caption throughput", language), figure
    if any(_points(run, summary.LATENCY) for run in timed):
        figure, axes = _new()
        kinds = set()
        for at, run in enumerate(timed):
            kinds.add("across processes" if run.conditions.get("repeats") else "within a process")
            ends = summary.latency_ends(bool(run.conditions.get("repeats")))
            _line(axes, run, summary.LATENCY, palette, _style(at, run, timed), ends)
        axes.set(ylabel=say("latency, p50 (ms)", language), xlabel=say("batch size", language))
        _log_log(axes, timed)
        told = ", ".join(say(kind, language) for kind in sorted(kinds))
        yield "curves", say("caption latency", language, kind=told), figure


def _distributions(runs: Sequence[Run], language: str) -> Iterator[tuple[str, str, Figure]]:
    import seaborn

    for run in runs:
        series = {row.case.batch_size: found for row in run.timed if len(found := _host_ms(run, row))}
        if not series:
            continue
        figure, axes = _new((4.2, 2.6))
        shades = seaborn.color_palette("viridis", len(series))
        for (size, values), shade in zip(series.items(), shades, strict=True):
            seaborn.ecdfplot(x=values, ax=axes, color=shade, label=str(size), lw=1.6)
        axes.set(
            xscale="log", xlabel=say("call (ms)", language), ylabel=say("share of calls", language), ylim=(0, 1.02)
        )
        _plain_ticks(axes.xaxis, [value for values in series.values() for value in values])
        axes.legend(title=say("batch", language), fontsize=7, title_fontsize=7, frameon=False, loc="lower right")
        axes.grid(color="#e5e5e5", lw=0.6)
        yield "distribution", say("caption distribution", language, name=run.name), figure


def _memory(runs: Sequence[Run], language: str) -> Iterator[tuple[str, str, Figure]]:
    bars = [(run.name, split) for run in runs if (split := _split(_largest(run, "memory_weights_mib")))][:MOST_BARS]
    if not bars:
        return
    figure, axes = _new((5.4, 1.3 + 0.32 * len(bars)))
    _stack(axes, bars, ("weights", "activations", "libraries"), language)
    axes.set_xlabel("MiB")
    yield "memory", say("caption memory", language), figure


def _tradeoffs(runs: Sequence[Run], palette: Mapping[str, Any], language: str) -> Iterator[tuple[str, str, Figure]]:
    headlines = [found[0] for run in runs if (found := advice.headline(run))]
    for one in sorted({one.name: one for one in headlines}.values(), key=lambda one: (one.headline, one.order)):
        metric, title, points = one.name, one.heading(language), []
        for run in runs:
            found, best = advice.headline(run), summary.summary(run.results)
            speed = best.get(f"best_{summary.throughput_name(run.timed)}")
            if found and found[0].name == metric and speed:
                points.append((run, speed, found[1]))
        if not points:
            continue
        figure, axes = _new()
        front = advice.frontier([(speed, value) for _, speed, value in points])
        axes.plot(*zip(*front, strict=True), color=GREY, lw=1, ls="--", zorder=1)
        for at, (run, speed, value) in enumerate(points):
            axes.plot([speed], [value], "o", ms=7, color=palette[run.model], mfc=_fill(run, palette))
            if (known := stated(metric, _values(run.quality))) and known[1]:
                axes.plot([speed] * 2, known[1], color=palette[run.model], lw=1, marker="_", ms=6)
            place = (5.0, 5.0 if at % 2 else -11.0)
            axes.annotate(run.name, (speed, value), xytext=place, textcoords="offset points", fontsize=7)
        axes.margins(0.25, 0.3)
        if one.unit == "fraction":
            axes.set_ylim(top=min(axes.get_ylim()[1], 1.02))
        axes.set(xlabel=say("throughput", language), ylabel=title)
        axes.grid(color="#e5e5e5", lw=0.6)
        yield "tradeoff", say("caption tradeoff", language, metric=title), figure


def _stages(runs: Sequence[Run], language: str) -> Iterator[tuple[str, str, Figure]]:
    bars = []
    for run in runs:
        values = _values(_largest(run, "pipeline_serial_ms"))
        steps = {step: value for step in PIPELINE_STEPS if (value := values.get(f"pipeline_{step}_ms")) is not None}
        if steps:
            bars.append((run.name, steps))
    if not bars:
        return
    figure, axes = _new((5.4, 1.5 + 0.32 * len(bars)))
    _stack(axes, bars, PIPELINE_STEPS, None)
    axes.set_xlabel(say("ms a batch", language))
    yield "stages", say("caption stages", language), figure


def _roofline(runs: Sequence[Run], palette: Mapping[str, Any], language: str) -> Iterator[tuple[str, str, Figure]]:
    names = ("intensity_flop_per_byte", "achieved_tflop_per_s", "ceiling_tflop_per_s", "copy_gb_per_s")
    found: list[tuple[Run, CaseResult, list[float]]] = []
    for run in runs:
        for row in run.timed:
            known = [value for name in names if (value := _values(row).get(f"flops_{name}")) is not None]
            if len(known) == len(names):
                found.append((run, row, known))
    if not found:
        return
    figure, axes = _new()
    reach = np.geomspace(min(n[0] for *_, n in found) / 4, max(n[0] for *_, n in found) * 4, 100)
    roofs: dict[tuple[str, str], list[Any]] = {}
    for run, _, numbers in found:
        key = (run.facts()["device_name"], run.conditions["plan"]["precision"])
        roofs.setdefault(key, []).append(numbers)
    for (device, precision), of_roof, style in zip(roofs, roofs.values(), STYLES * len(roofs), strict=False):
        ceiling, copy = max(n[2] for n in of_roof), max(n[3] for n in of_roof)
        roof = np.minimum(ceiling, reach * copy / 1e3)
        axes.plot(reach, roof, color=GREY, lw=1.2, ls=style, label=f"{precision}, {device}")
    for run, row, numbers in found:
        label = run.model if row is next(r for r_run, r, _ in found if r_run.model == run.model) else None
        axes.plot([numbers[0]], [numbers[1]], "o", ms=5, color=palette[run.model], label=label)
    axes.set(xscale="log", yscale="log", xlabel=say("intensity", language), ylabel=say("rate", language))
    axes.grid(color="#e5e5e5", lw=0.6)
    _legend(axes)
    yield "roofline", say("caption roofline", language), figure


# ------------------------------------------------------------------------------------------------------------- details
def _new(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    return figure, figure.subplots()


def _line(
    axes: Axes, run: Run, name: str, palette: Mapping[str, Any], style: str, ends: tuple[str, str] | None
) -> None:
    """A run's curve: filled marks are valid, hollow ones warned, crosses invalid."""
    points, colour = _points(run, name), palette[run.model]
    axes.plot([row.case.batch_size for row, _ in points], [v for _, v in points], style, color=colour, lw=1.4)
    for row, value in points:
        mark = "X" if row.validity.verdict == INVALID else "o"
        fill = colour if row.validity.verdict != "warned" else "white"
        axes.plot([row.case.batch_size], [value], mark, ms=5.5, color=colour, mfc=fill)
        low, high = (_values(row).get(end) for end in ends) if ends else (None, None)
        if low is not None and high is not None:
            axes.plot([row.case.batch_size] * 2, [low, high], color=colour, lw=1, marker="_", ms=6)
    if points:
        axes.plot([], [], style, color=colour, label=run.name)


def _style(at: int, run: Run, runs: Sequence[Run]) -> str:
    """Runs of one model are told apart by their line."""
    return STYLES[sum(other.model == run.model for other in runs[:at]) % len(STYLES)]


def _log_log(axes: Axes, runs: Sequence[Run]) -> None:
    from matplotlib.ticker import NullLocator

    sizes = sorted({row.case.batch_size for run in runs for row in run.timed})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    values = [value for line in axes.lines for value in np.asarray(line.get_ydata(), float)]
    _plain_ticks(axes.yaxis, values)
    axes.grid(color="#e5e5e5", lw=0.6)
    _legend(axes)


def _plain_ticks(axis: Any, values: Sequence[float]) -> None:
    """Ticks of a logarithmic axis in plain numbers, within a decade too where values span little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    few = len(values) > 0 and max(values) / max(min(values), 1e-12) < 50
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = 1 if max(map(len, labels)) > 30 or len(labels) < 3 else 2
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, fontsize=7, frameon=False)


def _stack(
    axes: Axes, bars: Sequence[tuple[str, Mapping[str, float]]], parts: Sequence[str], language: str | None
) -> None:
    """Horizontal bars, one a run, in the parts' order; parts are named by `words` where a language is given."""
    import seaborn

    left = np.zeros(len(bars))
    for part, colour in zip(parts, seaborn.color_palette("colorblind", len(parts)), strict=True):
        widths = np.array([of_run.get(part, 0.0) for _, of_run in bars])
        if widths.any():
            label = say(part, language) if language else part
            axes.barh(range(len(bars)), widths, left=left, color=colour, label=label, height=0.7)
            left = left + widths
    axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=7)
    axes.invert_yaxis()
    _legend(axes)


def _split(row: CaseResult | None) -> dict[str, float]:
    """A case's peak memory in MiB: weights, what is beside them for the model, and the process's own."""
    values = _values(row)
    weights = values.get("memory_weights_mib")
    allocated, process = values.get("memory_peak_allocated_mib"), values.get("memory_process_peak_mib")
    if weights is None or (allocated is None and process is None):
        return {}
    if allocated is not None:
        return {"weights": weights, "activations": max(allocated - weights, 0.0)}
    above = max(values.get("memory_process_above_model_mib") or 0.0, 0.0)
    return {"weights": weights, "activations": above, "libraries": max((process or 0.0) - weights - above, 0.0)}


def _largest(run: Run, name: str) -> CaseResult | None:
    """The case of the largest batch size that has the metric."""
    rows = [row for row in run.timed if _values(row).get(name) is not None]
    return rows[-1] if rows else None


def _host_ms(run: Run, row: CaseResult) -> np.ndarray:
    """The raw latencies of a case in ms; of a run that several processes measured, the first one's."""
    if run.folder is None or row.status != OK:
        return np.empty(0)
    first = run.folder.path / "repeats" / "1"
    folder = type(run.folder)(first) if first.is_dir() else run.folder
    return folder.samples(row.case.id).get("latency/host_s") * 1e3


def _fill(run: Run, palette: Mapping[str, Any]) -> Any:
    return palette[run.model] if summary.verdict(run.results) == VALID else "white"


def _points(run: Run, name: str) -> list[tuple[CaseResult, float]]:
    return [(row, value) for row in run.timed if (value := _values(row).get(name)) is not None]


def _values(row: CaseResult | None) -> Mapping[str, float | None]:
    return row.metrics.values if row is not None and row.status == OK else {}
