"""Split a table's lines into rows: one delimiter, quotes where the file uses them, and a fault for any other row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from visionbench.datafiles.annotation_files import PICTURE_SUFFIXES

NAME = re.compile(rf"[^\s,;|\"](?:{'|'.join(re.escape(suffix) for suffix in sorted(PICTURE_SUFFIXES))})", re.IGNORECASE)
"""The end of a picture's name."""
ALWAYS_CSV = (",", ";")
"""Tables with these delimiters use quotes as RFC 4180 has them as soon as one cell stands in quotes."""

ESCAPED = re.compile(r'\s*".*\\".*"\s*', re.DOTALL)
"""A cell in quotes with a quote that a backslash marks, as no table by RFC 4180 has it."""
BACKSLASH = (
    "a backslash stands before a quote within quotes; write the quote twice instead, or give data.options.quotes=text "
    "if the quotes and backslashes are part of the caption"
)
OPEN = "a quote opens a cell and does not close it in a row of its own"


@dataclass(frozen=True)
class Layout:
    """Where a table has what: delimiter, number of columns, the two that are read, and its first row."""

    delimiter: str
    width: int
    picture: int
    caption: int
    start: int
    heading: bool


@dataclass(frozen=True)
class TableRow:
    """A picture with one caption, or a fault."""

    line: int
    picture: str | None
    caption: str = ""
    fault: str | None = None


@dataclass(frozen=True)
class Split:
    """The cells of one row. `quoted` are those that stood in quotes; `broken` says why there are no cells."""

    line: int
    raw: str
    cells: tuple[str, ...] = ()
    quoted: frozenset[int] = frozenset()
    evident: bool = False
    """Whether a cell in quotes holds what needs them: a quote, a delimiter, the end of a line."""
    broken: str | None = None


def rows_of_table(text: Sequence[str], layout: Layout, quotes: str | None) -> tuple[list[TableRow], bool]:
    """The rows of a table, and whether it uses quotes. `quotes` is `csv`, `text` (quotes belong to the text) or None,
    which looks at the file:

    - With commas and semicolons, one cell in sound quotes makes the file one that uses them.
    - With tabs and bars, a cell in quotes that holds a quote, a delimiter or the end of a line does, or a caption in
      quotes in every row.
    - Else quotes are text.
    """
    splits = _split_quoted(text, layout)
    looked_for = quotes is None
    if quotes is None:
        quotes = "csv" if _uses_quotes(splits, layout) else "text"
    if quotes == "text":
        plain = [(at + 1, text[at]) for at in range(layout.start, len(text))]
        splits = [Split(line, raw, tuple(raw.split(layout.delimiter))) for line, raw in plain]
    splits = [one for one in splits if one.broken or any(cell.strip() for cell in one.cells)]
    numbers = _number_columns(splits, layout) and not _wider_throughout(splits, layout)
    rows = [_row(one, layout, quotes == "csv", numbers) for one in splits]
    if looked_for and quotes == "text":
        rows = [replace(one, caption="", fault=BACKSLASH) if ESCAPED.fullmatch(one.caption) else one for one in rows]
    return rows, quotes == "csv"


def _uses_quotes(splits: Sequence[Split], layout: Layout) -> bool:
    if layout.delimiter in ALWAYS_CSV:
        return any(one.quoted for one in splits)
    rows = [one for one in splits if one.cells]
    return any(one.evident for one in rows) or (bool(rows) and all(layout.caption in one.quoted for one in rows))


# -------------------------------------------------------------------------------------------------- from lines to cells
def _split_quoted(text: Sequence[str], layout: Layout) -> list[Split]:
    """Rows by RFC 4180; a cell in quotes may go on over lines, as long as none of them is a row itself."""
    found: list[Split] = []
    at = layout.start
    suffixed = at < len(text) and bool(NAME.search(text[at]))
    while at < len(text):
        one = _cells(at + 1, text[at], layout.delimiter)
        end = at + 1
        if one is None:
            closed = _closing_line(text, at, layout, suffixed)
            one = _cells(at + 1, "\n".join(text[at:closed]), layout.delimiter) if closed else None
            one = one or Split(at + 1, text[at], broken=OPEN)
            end = closed if closed and not one.broken else end
        found.append(one)
        at = end
    return found


def _cells(line: int, raw: str, delimiter: str) -> Split | None:
    """The cells of a row; None where its last quote is still open."""
    if '"' not in raw:
        return Split(line, raw, tuple(raw.split(delimiter)))
    ends = re.escape(delimiter)
    in_quotes = re.compile(rf' *"((?:[^"]|"")*)" *(?={ends}|\Z)')
    cells: list[str] = []
    quoted: set[int] = set()
    evident = False
    at = 0
    while True:
        if found := in_quotes.match(raw, at):
            quoted.add(len(cells))
            evident |= any(mark in found[1] for mark in ('"', delimiter, "\n"))
            cells.append(found[1].replace('""', '"'))
            at = found.end()
        else:
            end = raw.find(delimiter, at)
            cell = raw[at : len(raw) if end < 0 else end]
            if cell.lstrip(" ").startswith('"'):
                if re.compile(r' *"(?:[^"]|"")*\Z').match(raw, at):
                    return None
                return Split(line, raw, broken="text stands behind a closing quote; write a quote within quotes twice")
            if '"' in cell:
                message = (
                    "a quote stands within a cell that is not in quotes; put the cell in quotes and write it twice"
                )
                return Split(line, raw, broken=message)
            cells.append(cell)
            at = len(raw) if end < 0 else end
        if at == len(raw):
            return Split(line, raw, tuple(cells), frozenset(quoted), evident)
        at += len(delimiter)


def _closing_line(text: Sequence[str], at: int, layout: Layout, suffixed: bool) -> int | None:
    """Behind the line that closes the quote that line `at` leaves open; None where a row or the end comes before it."""
    for end in range(at + 1, len(text)):
        if _is_row(text[end], layout, suffixed):
            return None
        if re.match(r'(?:[^"]|"")*"(?!")', text[end]):
            return end + 1
    return None


def _is_row(line: str, layout: Layout, suffixed: bool) -> bool:
    """Whether a line alone reads as a row of the table."""
    cells = line.split(layout.delimiter)
    if len(cells) < layout.width:
        return False
    name = cells[layout.picture - layout.width if layout.picture > layout.caption else layout.picture].strip(' "')
    return bool(re.search(rf"{NAME.pattern}\Z", name, re.IGNORECASE)) if suffixed else bool(name) and " " not in name


# ---------------------------------------------------------------------------------------------------- from cells to row
def _number_columns(splits: Sequence[Split], layout: Layout) -> bool:
    """Whether every column but the picture's and the caption's holds numbers alone, in rows of the right width."""
    others = set(range(layout.width)) - {layout.picture, layout.caption}
    sound = [one.cells for one in splits if len(one.cells) == layout.width]
    return all(cells[at].strip().isdecimal() for cells in sound for at in others)


def _wider_throughout(splits: Sequence[Split], layout: Layout) -> bool:
    """Whether every row has the same number of cells, more than the heading, so that the heading lacks a column.

    Commas with a blank behind them are a sentence's, as long as the cells before them begin without one.
    """
    widths = {len(one.cells) for one in splits}
    if len(widths) != 1 or max(widths) <= layout.width:
        return False
    if all(one.cells[layout.caption].strip().isdecimal() for one in splits):
        return True
    further = slice(layout.caption + 1, layout.caption + 1 + max(widths) - layout.width)
    of_sentences = all(cell.startswith(" ") for one in splits for cell in one.cells[further])
    return not of_sentences or all(one.cells[layout.caption].startswith(" ") for one in splits)


def _row(one: Split, layout: Layout, quoted: bool, numbers: bool) -> TableRow:
    cells = one.cells
    if one.broken:
        return TableRow(one.line, _name_in(one.raw, layout), fault=one.broken)
    if len(cells) > layout.width and not quoted and numbers and cells[-1].strip():
        cells = _joined(one, layout)
    if len(cells) != layout.width:
        way_out = "; put a cell that holds the delimiter in quotes" if len(cells) > layout.width else ""
        has = f"the heading has {layout.width}" if layout.heading else "there must be 2"
        count = f"{len(cells)} cell{'s' if len(cells) > 1 else ''}"
        return TableRow(one.line, _name_in(one.raw, layout), fault=f"{count} where {has}{way_out}")
    picture, caption = cells[layout.picture].strip(), cells[layout.caption]
    if not picture:
        return TableRow(one.line, None, fault="no picture's name")
    if not layout.heading and not re.search(rf"{NAME.pattern}\Z", picture, re.IGNORECASE):
        return TableRow(one.line, picture, fault="its first cell is not the name of a picture")
    merged = re.compile(rf"{NAME.pattern}\s*{re.escape(layout.delimiter)}", re.IGNORECASE)
    if layout.caption not in one.quoted and merged.search(caption):
        return TableRow(one.line, picture, fault="two rows in one line; begin the second on its own")
    return TableRow(one.line, picture, caption)


def _joined(one: Split, layout: Layout) -> tuple[str, ...]:
    """Cells where further delimiters belong to the caption: those before it are counted from the left, those behind it
    from the right. As they were where a number or a name is then not one."""
    after = layout.width - layout.caption - 1
    end = len(one.cells) - after
    caption = layout.delimiter.join(one.cells[layout.caption : end])
    cells = (*one.cells[: layout.caption], caption, *one.cells[end:])
    others = set(range(layout.width)) - {layout.picture, layout.caption}
    if not all(cells[at].strip().isdecimal() for at in others):
        return one.cells
    if layout.picture > layout.caption and not re.search(rf"{NAME.pattern}\Z", cells[layout.picture].strip(), re.I):
        return one.cells
    return cells


def _name_in(raw: str, layout: Layout) -> str | None:
    """The picture's name in a row that cannot be read, where its column is the first."""
    if layout.picture != 0:
        return None
    name = raw.split(layout.delimiter)[0].strip(' "')
    if found := re.match(rf"[^\t,;|]*?{NAME.pattern}(?![\w.])", name, re.IGNORECASE):
        return found[0]
    return name if name and " " not in name and len(name) < 200 else None
