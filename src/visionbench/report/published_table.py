"""The texts of the comparison with published figures: rows of the table, sources, and implausible figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visionbench.report import published
from visionbench.report.published import Comparison, Excess
from visionbench.report.translations import translate
from visionbench.results import summary
from visionbench.results.naming import Names
from visionbench.terminal.marks import MARKS

COLUMNS = (
    "batch",
    "figure",
    "published ours",
    "published ratio",
    "published scaled",
    "published share",
    "published figure",
    "published differs",
    "published source",
)
TEXTS = ("figure", "published figure", "published differs", "published source")
"""The columns of text."""
SIMILAR_BATCH = 4
"""Batch sizes that differ by a larger factor are named as a difference."""


def rows(compared: Sequence[Comparison], names: Names, language: str) -> tuple[list[list[str]], list[str]]:
    """Return the rows of the table, and the sources with their numbers and the software of their figures."""
    numbers: dict[str, int] = {}
    table = []
    for one in compared:
        source = f"{one.figure.software}: {one.figure.source}"
        number = numbers.setdefault(source, len(numbers) + 1)
        table.append([*_head(one, names), *_cells(one, language), f"[{number}]"])
    return table, [f"[{number}] {source}" for source, number in numbers.items()]


def doubts(excesses: Sequence[Excess], names: Names, language: str) -> Iterator[str]:
    """Yield a sentence about each implausible figure."""
    for one in excesses:
        name = f"{names.name(one.run)}, {one.row.case.id}"
        yield translate(f"implausible {one.limit}", language, name=name, multiple=f"{one.multiple:.3g}")


def _head(one: Comparison, names: Names) -> list[str]:
    plan, values = one.run.record.plan, names.values(one.run)
    return [one.run.model, plan.device, plan.precision, *(values[column] for column in names.columns)]


def _cells(one: Comparison, language: str) -> list[str]:
    figure, timed = one.figure, one.row.case.timed
    share = published.share_of_peak(one.run, one.row) if timed else None
    return [
        str(one.row.case.batch_size) if timed else "–",
        summary.unit(figure.metric) if timed else summary.words(figure.metric),
        f"{summary.text(one.ours)} {MARKS[one.row.validity.verdict]}".strip(),
        "–" if one.ratio is None else f"{one.ratio:.3g}",
        summary.text(one.expected),
        "–" if share is None else f"{share:.2%}",
        _published(figure, language),
        "; ".join(_differences(one, language)) or "–",
    ]


def _published(figure: published.PublishedFigure, language: str) -> str:
    value = summary.text(figure.value)
    if figure.kind == published.QUALITY:
        return value
    hardware = figure.hardware.removeprefix("NVIDIA ").removeprefix("GeForce ")
    return f"{value} · {hardware} · {figure.precision} · {translate('batch', language)} {figure.batch}"


def _differences(one: Comparison, language: str) -> Iterator[str]:
    """Yield the conditions, besides the device, that can make the two figures differ."""
    figure, size = one.figure, one.row.case.batch_size
    if figure.batch and max(size, figure.batch) > SIMILAR_BATCH * min(size, figure.batch):
        yield translate("batch differs", language, ours=size, published=figure.batch)
    if figure.kind == published.SPEED and figure.part != one.part:
        yield translate("part differs", language, ours=one.part, published=figure.part)
    if figure.precision in published.DTYPES:
        yield translate("autocast differs", language)
    if figure.note:
        yield figure.note
