"""A report as files: one HTML page that needs nothing beside it, Markdown, and the figures as PNG."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.report import document, figures, sweep_figures
from visionbench.report.document import P95_MS, QUALITY_WITHIN, Grid, Report
from visionbench.report.translations import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from visionbench.results.archive import Run

PAGE, TEXT, FIGURES = "report.html", "report.md", "figures"
"""Of a report, in its folder."""
SECTIONS = ("curves", "tradeoff", "distribution", "memory", "stages", "roofline")
"""Of figures, in the order of the page."""


def write_report(
    runs: Sequence[Run],
    language: str,
    folder: Path,
    baseline: Mapping[str, str] | None = None,
    p95_ms: float = P95_MS,
    within: float = QUALITY_WITHIN,
) -> list[Path]:
    """Compose the report of these runs and write it into the folder; return the paths, the page first."""
    return write(document.compose(runs, language, baseline, p95_ms, within), runs, folder)


def write(report: Report, runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write report.html, report.md and figures/*.png into the folder; returns their paths, the page first."""
    drawn: dict[str, list[tuple[str, str, bytes]]] = {section: [] for section in SECTIONS}
    pictures = folder / FIGURES
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    paths = []
    for section, caption, figure in sweep_figures.figures(runs, report.language):
        path = pictures / f"{section}-{len(drawn[section]) + 1}.png"
        svg = _draw(figure, path)
        drawn[section].append((caption, f"{FIGURES}/{path.name}", svg))
        paths.append(path)
    page, text = folder / PAGE, folder / TEXT
    page.write_text(html(report, drawn, len(runs)), encoding="utf-8")
    text.write_text(markdown(report, drawn, len(runs)), encoding="utf-8")
    return [page, text, *paths]


def written(folder: Path) -> list[Path]:
    """The files of a report that lies in a folder, as `write` returned them; none where there is no report."""
    page, text = folder / PAGE, folder / TEXT
    return [page, text, *sorted((folder / FIGURES).glob("*.png"))] if page.is_file() and text.is_file() else []


def html(report: Report, drawn: dict[str, list[tuple[str, str, bytes]]], count: int) -> str:
    """The page: figures as vector graphics within, text of every kind escaped."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("visionbench.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    images = {
        section: [(caption, "data:image/svg+xml;base64," + base64.b64encode(svg).decode()) for caption, _, svg in found]
        for section, found in drawn.items()
    }
    return environment.get_template("page.html").render(
        report=report,
        figures=images,
        sections=SECTIONS,
        say=lambda key, **fields: say(key, report.language, **fields),
        left_out=_left_out(report, count),
    )


def markdown(report: Report, drawn: dict[str, list[tuple[str, str, bytes]]], count: int) -> str:
    """The same in Markdown, its figures as PNG beside it."""

    def heading(key: str) -> str:
        return f"## {say(key, report.language)}"

    parts = [f"# {report.title}", report.subtitle, _items(report.remarks)]
    parts += [heading("choice"), report.rule, *(f"**{task}**\n\n{_items(lines)}" for task, lines in report.choices)]
    parts += [heading("summary"), say("legend", report.language), _grid(report.summary)]
    if report.relative:
        parts += [heading("relative"), _items(report.relative_notes), _grid(report.relative)]
    if report.quality:
        parts += [heading("figures of quality"), _items(report.quality_notes), _grid(report.quality)]
    if left_out := _left_out(report, count):
        parts.append(left_out)
    for section in SECTIONS:
        if drawn[section]:
            parts.append(heading(section))
            parts += [f"![{_cell(caption)}]({name})\n\n{caption}" for caption, name, _ in drawn[section]]
    nothing = say("nothing", report.language)
    parts += [
        heading("doubts"),
        _items(report.doubts) or nothing,
        heading("failures"),
        _items(report.failures) or nothing,
    ]
    parts += [heading("asked"), _pairs(report.asked), heading("machine"), _pairs(report.machine)]
    parts += [heading("conditions"), _grid(report.conditions), report.colophon]
    return "\n\n".join(filter(None, parts)) + "\n"


def _left_out(report: Report, count: int) -> str:
    shown = sweep_figures.MOST_CURVES
    return say("left out", report.language, shown=shown, all=count) if count > shown else ""


def _draw(figure: Figure, path: Path) -> bytes:
    """The figure as PNG in a file and as SVG in bytes, without what would differ from one drawing to the next."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    vector = BytesIO()
    with sweep_figures.styled():
        figures.write_png(figure, path)
        FigureCanvasSVG(figure).print_svg(vector, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return re.sub(rb"^.*?(?=<svg)", b"", vector.getvalue(), count=1, flags=re.DOTALL)


def _grid(grid: Grid) -> str:
    align = ["---"] * grid.names + ["---:"] * (len(grid.headings) - grid.names)
    rows = [grid.headings, align, *grid.rows]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _items(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_cell(line)}" for line in lines)


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return _grid(Grid(["", ""], pairs, names=2))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
