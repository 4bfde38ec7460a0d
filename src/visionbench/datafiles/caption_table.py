"""Split the lines of a caption table into rows: one delimiter, and quotes if the file uses them.

A line that is not a row of the table becomes a row with a problem.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
IMAGE_NAME = re.compile(rf"[^\s,;|\"](?:{'|'.join(map(re.escape, SUFFIXES))})", re.IGNORECASE)
"""The end of an image's name."""
CSV_DELIMITERS = (",", ";")
"""Delimiters of tables whose quotes follow RFC 4180 if any cell is in quotes."""
LONGEST_NAME = 200
"""Number of characters from which a cell is not taken for the name of an image."""

ESCAPED_QUOTE = re.compile(r'\s*".*\\".*"\s*', re.DOTALL)
"""A cell in quotes that contains a quote after a backslash, which RFC 4180 does not allow."""
ESCAPED_QUOTE_PROBLEM = (
    "a backslash precedes a quote within quotes; write the quote twice instead, or give data.options.quotes=text if "
    "the quotes and backslashes are part of the caption"
)
OPEN_QUOTE_PROBLEM = "a quote opens a cell and does not close it within its row"


@dataclass(frozen=True)
class Layout:
    """The layout of a table: delimiter, number of columns, the indices of two columns, and its first row."""

    delimiter: str
    width: int
    image: int
    caption: int
    start: int
    heading: bool


@dataclass(frozen=True)
class CaptionRow:
    """One row of a caption file: an image's name and its captions, or a problem. The name is None if it is unknown."""

    line: int
    image: str | None
    captions: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class _Cells:
    """The cells of one row. `quoted` are the indices of cells in quotes; with a `problem` there are no cells."""

    line: int
    raw: str
    cells: tuple[str, ...] = ()
    quoted: frozenset[int] = frozenset()
    needs_quotes: bool = False
    """Whether a cell in quotes contains a quote, a delimiter or the end of a line."""
    problem: str | None = None


def parse_table(lines: Sequence[str], layout: Layout, quotes: str | None) -> tuple[list[CaptionRow], bool]:
    """Return the rows of a table, and whether it uses quotes.

    `quotes` is `csv`, `text` (quotes are part of the text), or None to detect it:

    - With commas and semicolons, the table uses quotes if one cell is in quotes.
    - With tabs and bars, the table uses quotes if a cell in quotes contains a quote, a delimiter or the end of a line,
      or if the captions of all rows are in quotes.
    - Otherwise quotes are part of the text.
    """
    rows = _split_quoted_rows(lines, layout)
    detect = quotes is None
    if quotes is None:
        quotes = "csv" if _uses_quotes(rows, layout) else "text"
    if quotes == "text":
        plain = [(index + 1, lines[index]) for index in range(layout.start, len(lines))]
        rows = [_Cells(line, raw, tuple(raw.split(layout.delimiter))) for line, raw in plain]
    rows = [row for row in rows if row.problem or any(cell.strip() for cell in row.cells)]
    join_captions = quotes == "text" and _other_columns_are_numbers(rows, layout) and not _all_are_wider(rows, layout)
    parsed = [_parse_row(row, layout, join_captions) for row in rows]
    if detect and quotes == "text":
        parsed = [
            replace(row, captions=(), problem=ESCAPED_QUOTE_PROBLEM)
            if any(map(ESCAPED_QUOTE.fullmatch, row.captions))
            else row
            for row in parsed
        ]
    return parsed, quotes == "csv"


def find_image_name(text: str) -> str | None:
    """Return the name of an image at the start of a text, or None."""
    match = re.match(rf"[^\t,;|]*?{IMAGE_NAME.pattern}(?![\w.])", text, re.IGNORECASE)
    return match[0] if match else None


def _ends_with_image_name(text: str) -> bool:
    return bool(re.search(rf"{IMAGE_NAME.pattern}\Z", text, re.IGNORECASE))


def _uses_quotes(rows: Sequence[_Cells], layout: Layout) -> bool:
    if layout.delimiter in CSV_DELIMITERS:
        return any(row.quoted for row in rows)
    readable = [row for row in rows if row.cells]
    return any(row.needs_quotes for row in readable) or (
        bool(readable) and all(layout.caption in row.quoted for row in readable)
    )


# -------------------------------------------------------------------------------------------------- from lines to cells
def _split_quoted_rows(lines: Sequence[str], layout: Layout) -> list[_Cells]:
    """Split lines into rows by RFC 4180. A cell in quotes may span lines, if none of these lines is a row itself."""
    rows: list[_Cells] = []
    index = layout.start
    has_suffixes = index < len(lines) and bool(IMAGE_NAME.search(lines[index]))
    while index < len(lines):
        row = _split_cells(index + 1, lines[index], layout.delimiter)
        end = index + 1
        if row is None:
            closed = _find_closing_line(lines, index, layout, has_suffixes)
            row = _split_cells(index + 1, "\n".join(lines[index:closed]), layout.delimiter) if closed else None
            row = row or _Cells(index + 1, lines[index], problem=OPEN_QUOTE_PROBLEM)
            end = closed if closed and not row.problem else end
        rows.append(row)
        index = end
    return rows


def _split_cells(line: int, raw: str, delimiter: str) -> _Cells | None:
    """Return the cells of a row, or None if its last quote is not closed."""
    if '"' not in raw:
        return _Cells(line, raw, tuple(raw.split(delimiter)))
    quoted_cell = re.compile(rf' *"((?:[^"]|"")*)" *(?={re.escape(delimiter)}|\Z)')
    open_cell = re.compile(r' *"(?:[^"]|"")*\Z')
    cells: list[str] = []
    quoted: set[int] = set()
    needs_quotes = False
    position = 0
    while True:
        if match := quoted_cell.match(raw, position):
            quoted.add(len(cells))
            needs_quotes |= any(mark in match[1] for mark in ('"', delimiter, "\n"))
            cells.append(match[1].replace('""', '"'))
            position = match.end()
        else:
            end = raw.find(delimiter, position)
            end = len(raw) if end < 0 else end
            cell = raw[position:end]
            if cell.lstrip(" ").startswith('"'):
                if open_cell.match(raw, position):
                    return None
                return _Cells(line, raw, problem="text follows a closing quote; write a quote within quotes twice")
            if '"' in cell:
                problem = "a cell that is not in quotes contains a quote; put the cell in quotes and write it twice"
                return _Cells(line, raw, problem=problem)
            cells.append(cell)
            position = end
        if position == len(raw):
            return _Cells(line, raw, tuple(cells), frozenset(quoted), needs_quotes)
        position += len(delimiter)


def _find_closing_line(lines: Sequence[str], index: int, layout: Layout, has_suffixes: bool) -> int | None:
    """Return the index after the line that closes the quote of line `index`, or None if a row comes first."""
    for end in range(index + 1, len(lines)):
        if _is_row(lines[end], layout, has_suffixes):
            return None
        if re.match(r'(?:[^"]|"")*"(?!")', lines[end]):
            return end + 1
    return None


def _is_row(line: str, layout: Layout, has_suffixes: bool) -> bool:
    """Return whether a line alone is a row of the table."""
    cells = line.split(layout.delimiter)
    if len(cells) < layout.width:
        return False
    name = cells[layout.image - layout.width if layout.image > layout.caption else layout.image].strip(' "')
    return _ends_with_image_name(name) if has_suffixes else bool(name) and " " not in name


# -------------------------------------------------------------------------------------------------- from cells to rows
def _other_columns(layout: Layout) -> set[int]:
    return set(range(layout.width)) - {layout.image, layout.caption}


def _other_columns_are_numbers(rows: Sequence[_Cells], layout: Layout) -> bool:
    """Return whether all columns except image and caption contain only numbers, in rows of the right width."""
    complete = [row.cells for row in rows if len(row.cells) == layout.width]
    return all(cells[index].strip().isdecimal() for cells in complete for index in _other_columns(layout))


def _all_are_wider(rows: Sequence[_Cells], layout: Layout) -> bool:
    """Return whether all rows have the same number of cells, more than the heading, which then lacks a column.

    Commas that are followed by a space belong to a sentence, if the captions themselves do not begin with a space.
    """
    widths = {len(row.cells) for row in rows}
    if len(widths) != 1 or max(widths) <= layout.width:
        return False
    if all(row.cells[layout.caption].strip().isdecimal() for row in rows):
        return True
    surplus = slice(layout.caption + 1, layout.caption + 1 + max(widths) - layout.width)
    belong_to_sentences = all(cell.startswith(" ") for row in rows for cell in row.cells[surplus])
    return not belong_to_sentences or all(row.cells[layout.caption].startswith(" ") for row in rows)


def _parse_row(row: _Cells, layout: Layout, join_captions: bool) -> CaptionRow:
    cells = row.cells
    if row.problem:
        return CaptionRow(row.line, _guess_image(row.raw, layout), problem=row.problem)
    if len(cells) > layout.width and join_captions and cells[-1].strip():
        cells = _join_caption(row, layout)
    if len(cells) != layout.width:
        remedy = "; put a cell that contains the delimiter in quotes" if len(cells) > layout.width else ""
        expected = f"the heading has {layout.width}" if layout.heading else "2 are expected"
        problem = f"{len(cells)} cell{'s' if len(cells) > 1 else ''}, but {expected}{remedy}"
        return CaptionRow(row.line, _guess_image(row.raw, layout), problem=problem)
    image, caption = cells[layout.image].strip(), cells[layout.caption]
    if not image:
        return CaptionRow(row.line, None, problem="no name of an image")
    if not layout.heading and not _ends_with_image_name(image):
        return CaptionRow(row.line, image, problem="its first cell is not the name of an image")
    second_row = re.compile(rf"{IMAGE_NAME.pattern}\s*{re.escape(layout.delimiter)}", re.IGNORECASE)
    if layout.caption not in row.quoted and second_row.search(caption):
        return CaptionRow(row.line, image, problem="two rows in one line; begin a new line for the second")
    return CaptionRow(row.line, image, (caption,))


def _join_caption(row: _Cells, layout: Layout) -> tuple[str, ...]:
    """Return the cells with surplus delimiters as part of the caption.

    Cells before the caption are counted from the left, cells after it from the right. The cells are unchanged if a
    number or a name would then be in the wrong column.
    """
    end = len(row.cells) - (layout.width - layout.caption - 1)
    caption = layout.delimiter.join(row.cells[layout.caption : end])
    cells = (*row.cells[: layout.caption], caption, *row.cells[end:])
    if not all(cells[index].strip().isdecimal() for index in _other_columns(layout)):
        return row.cells
    if layout.image > layout.caption and not _ends_with_image_name(cells[layout.image].strip()):
        return row.cells
    return cells


def _guess_image(raw: str, layout: Layout) -> str | None:
    """Return the image's name in a row that cannot be read, if the image's column is the first."""
    if layout.image != 0:
        return None
    name = raw.split(layout.delimiter)[0].strip(' "')
    if image := find_image_name(name):
        return image
    return name if name and " " not in name and len(name) < LONGEST_NAME else None
