"""A report as files: one HTML page that needs no other file, Markdown, and the figures as PNG."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.report import document, drawing, sweep_figures
from visionbench.report.document import NO_BOUNDS, Report
from visionbench.report.translations import translate
from visionbench.results.advice.candidates import Bounds

if TYPE_CHECKING:
    from visionbench.results.archive import Run

PAGE, TEXT, FIGURES = "report.html", "report.md", "figures"
"""The files of a report, in its folder."""
HTML, MARKDOWN = "page.html", "page.md"
"""The templates."""
SECTIONS = ("curves", "tradeoff", "distribution", "memory", "stages", "roofline")
"""The sections of figures, in the order of the page."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure in a report: its caption, the PNG file relative to the report, and the figure as SVG."""

    caption: str
    file: str
    svg: bytes

    @property
    def data_uri(self) -> str:
        """The SVG as a data URI, which the HTML page contains."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()


def write_report(
    runs: Sequence[Run],
    language: str,
    folder: Path,
    baseline: Mapping[str, str] | None = None,
    bounds: Bounds = NO_BOUNDS,
) -> list[Path]:
    """Compose the report of these runs and write it into the folder; return the paths, the page first."""
    return write(document.compose(runs, language, baseline, bounds), runs, folder)


def write(report: Report, runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write report.html, report.md and figures/*.png into the folder; return their paths, the page first."""
    drawn: dict[str, list[DrawnFigure]] = {section: [] for section in SECTIONS}
    images = folder / FIGURES
    images.mkdir(parents=True, exist_ok=True)
    for path in images.glob("*.png"):
        path.unlink()
    paths = []
    for section, caption, figure in sweep_figures.figures(runs, report.language):
        path = images / f"{section}-{len(drawn[section]) + 1}.png"
        with drawing.styled():
            drawing.write_png(figure, path)
            drawn[section].append(DrawnFigure(caption, f"{FIGURES}/{path.name}", drawing.svg(figure)))
        paths.append(path)
    files = [folder / PAGE, folder / TEXT]
    for file, template in zip(files, (HTML, MARKDOWN), strict=True):
        file.write_text(render(template, report, drawn, len(runs)), encoding="utf-8")
    return [*files, *paths]


def written(folder: Path) -> list[Path]:
    """Return the files of the report in a folder, in the order of `write`; empty if there is no report."""
    page, text = folder / PAGE, folder / TEXT
    return [page, text, *sorted((folder / FIGURES).glob("*.png"))] if page.is_file() and text.is_file() else []


def render(template: str, report: Report, drawn: Mapping[str, Sequence[DrawnFigure]], count: int) -> str:
    """Fill in a template. HTML is escaped by jinja, Markdown by the filter `cell`; Markdown has single blank lines."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("visionbench.report", "."),
        autoescape=template == HTML,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = cell
    text = environment.get_template(template).render(
        report=report,
        figures=drawn,
        sections=SECTIONS,
        translate=lambda key, **fields: translate(key, report.language, **fields),
        left_out=_left_out(report, count),
    )
    return text if template == HTML else re.sub(r"\n{3,}", "\n\n", text)


def cell(text: str) -> str:
    """Return a text as a cell of a Markdown table: in one line, with bars and tags escaped."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _left_out(report: Report, count: int) -> str:
    shown = sweep_figures.MOST_CURVES
    return translate("left out", report.language, shown=shown, all=count) if count > shown else ""
