"""A report as files: one HTML page that needs no other file, Markdown, and the figures as PNG."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.records import atomic
from visionbench.report import document, drawing, load_figures, svg, sweep_figures, tuning, tuning_figure
from visionbench.report.document import NO_BOUNDS, Report
from visionbench.report.sweep_figures import SweepFigure
from visionbench.report.translations import translate
from visionbench.results import archive, markdown
from visionbench.results.advice.candidates import Bounds

if TYPE_CHECKING:
    from visionbench.results.archive import Run

PAGE, TEXT, FIGURES = "report.html", "report.md", "figures"
"""The files of a report, in its folder."""
HTML, MARKDOWN = "page.html", "page.md"
"""The templates."""
SECTIONS = ("tuning front", "curves", "loads", "tradeoff", "distribution", "memory", "stages", "roofline")
"""The sections of figures, in the order of the page."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure in a report: its title, its note, the PNG file relative to the report, and its SVG for the page."""

    title: str
    note: str
    file: str
    svg: str


def write_report(
    runs: Sequence[Run],
    language: str,
    folder: Path,
    baseline: Mapping[str, str] | None = None,
    bounds: Bounds = NO_BOUNDS,
) -> list[Path]:
    """Compose the report of these runs and write it into the folder; return the paths, the page first.

    A missing font for the language is reported in one line on standard error.
    """
    if warning := font_warning(language):
        archive.warn(warning)
    return write(document.compose(runs, language, baseline, bounds), runs, folder)


def font_warning(language: str) -> str:
    """Return a warning, with the remedy, if the PNG figures cannot show the characters of a language; else nothing.

    The figures of the HTML page use the fonts of the reader's machine.
    """
    if language != "zh" or drawing.chinese_font():
        return ""
    return (
        "no font with Chinese characters is installed, so the PNG figures of the report show boxes; "
        f"install one: {drawing.CHINESE_PACKAGE}"
    )


def write(report: Report, runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write report.html, report.md and figures/*.png into the folder; return their paths, the page first."""
    drawn: dict[str, list[DrawnFigure]] = {section: [] for section in SECTIONS}
    images = folder / FIGURES
    images.mkdir(parents=True, exist_ok=True)
    for path in images.glob("*.png"):
        path.unlink()
    paths: list[Path] = []
    selective: set[str] = set()
    drawings = (
        *_search_figures(runs, report.language),
        *sweep_figures.figures(runs, report.language),
        *load_figures.figures(runs, report.language),
    )
    for each in drawings:
        key = f"{each.section.replace(' ', '-')}-{len(drawn[each.section]) + 1}"
        path = images / f"{key}.png"
        with drawing.styled(report.language):
            drawing.write_png(each.figure, path)
            inline = svg.inline(drawing.svg(each.figure), key, each.title)
        note = _note(each, report.language)
        selective |= {each.section} if each.drawn < each.available else set()
        drawn[each.section].append(DrawnFigure(each.title, note, f"{FIGURES}/{path.name}", inline))
        paths.append(path)
    files = [folder / PAGE, folder / TEXT]
    for file, template in zip(files, (HTML, MARKDOWN), strict=True):
        atomic.write(file, render(template, report, drawn, selective))
    return [*files, *paths]


def _search_figures(runs: Sequence[Run], language: str) -> Iterator[SweepFigure]:
    """Yield the figure of each search of `visionbench tune`."""
    with drawing.styled(language):
        for record in tuning.records(runs):
            if (figure := tuning_figure.draw(record, language)) is not None:
                yield figure


def written(folder: Path) -> list[Path]:
    """Return the files of the report in a folder, in the order of `write`; empty if there is no report."""
    page, text = folder / PAGE, folder / TEXT
    return [page, text, *sorted((folder / FIGURES).glob("*.png"))] if page.is_file() and text.is_file() else []


def render(
    template: str, report: Report, drawn: Mapping[str, Sequence[DrawnFigure]], selective: Collection[str] = ()
) -> str:
    """Fill in a template. HTML is escaped by jinja, Markdown by the filter `cell`; Markdown has single blank lines.

    `selective` has the sections whose figures do not show all runs.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("visionbench.report", "."),
        autoescape=template == HTML,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": markdown.escaped, "item": markdown.item}
    text = environment.get_template(template).render(
        report=report,
        figures=drawn,
        sections=SECTIONS,
        selective=selective,
        contents=list(_contents(report, drawn)),
        theme=drawing.THEME,
        words={key: translate(f"table {key}", report.language) for key in ("search", "all", "rows")},
        translate=lambda key, **fields: translate(key, report.language, **fields),
    )
    return text if template == HTML else re.sub(r"\n{3,}", "\n\n", text)


def _contents(report: Report, drawn: Mapping[str, Sequence[DrawnFigure]]) -> Iterator[str]:
    """Yield the keys of the headings of the page, in order."""
    yield from ("tuning",) if report.searches else ()
    yield from ("choice", "summary")
    yield from ("relative",) if report.relative else ()
    yield from ("figures of quality",) if report.quality else ()
    yield from ("published",) if report.published else ()
    yield from (section for section in SECTIONS if drawn[section] or (section == load_figures.SECTION and report.loads))
    yield from ("doubts", "failures", "request", "machine", "conditions")


def _note(figure: SweepFigure, language: str) -> str:
    """Return the sentences below a figure: the number of runs if some are left out, and its own note."""
    fields = {"shown": figure.drawn, "all": figure.available}
    left_out = translate("left out", language, **fields) if figure.drawn < figure.available else ""
    return " ".join(filter(None, [left_out, figure.note]))
