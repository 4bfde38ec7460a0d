"""Tables that fit a width. No number is cut: texts are shortened, columns are left out, or rows become a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from visionbench.variation import shortened

GAP = 2
COMFORTABLE_TEXT, SHORTEST_TEXT = 28, 12
"""The widths in characters to which texts are shortened before and after less important columns are left out."""
LESS_IMPORTANT = 3
"""Columns with this rank or a higher one are left out before texts are shortened to SHORTEST_TEXT."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading and a cell for each row."""

    heading: str
    cells: Sequence[str]
    number: bool = True
    """Whether the cells are numbers, which are aligned to the right and never shortened."""
    complete: bool = False
    """Whether the texts are never shortened, such as ids and statuses."""
    rank: int = 0
    """If the table is too wide, columns with the highest rank are left out first, and those with rank 0 never."""
    least_width: int = 0

    @property
    def width(self) -> int:
        """The width of the longest cell or of the heading."""
        return max(self.least_width, cell_len(self.heading), *map(cell_len, self.cells))


def fitted(columns: Sequence[Column], width: int, *, gap: int = GAP, dim_repeats: bool = False) -> RenderableType:
    """Return a table of these columns that is at most `width` characters wide; below it, the columns left out.

    If the table is too wide, texts are shortened to COMFORTABLE_TEXT, then columns of a rank from LESS_IMPORTANT are
    left out, then texts are shortened to SHORTEST_TEXT, then the other columns with a rank are left out.
    If the columns with rank 0 do not fit, each row becomes lines of the form `heading value`. With `dim_repeats`,
    texts that are equal to the row above are dim.
    """
    shown = [column for column in columns if column.heading or any(column.cells)]
    for shortest, rank in ((COMFORTABLE_TEXT, LESS_IMPORTANT), (SHORTEST_TEXT, 1)):
        while _total(shrunk := _shrunk(shown, width, gap, shortest), gap) > width:
            droppable = [column for column in shown if column.rank >= rank]
            if not droppable:
                break
            last = max(droppable, key=lambda column: (column.rank, shown.index(column)))
            shown = [column for column in shown if column is not last]
    if _total(shrunk, gap) > width:
        return Group(*_list(columns, width))
    hidden = [column.heading for column in columns if column.rank and column not in shown]
    notes = [Text(f"not shown at this width: {', '.join(hidden)}", style="dim")] if hidden else []
    return Group(_table(shrunk, gap, dim_repeats), *notes)


def _total(columns: Sequence[Column], gap: int) -> int:
    return sum(column.width for column in columns) + gap * (len(columns) - 1)


def _shrunk(columns: Sequence[Column], width: int, gap: int, shortest: int) -> list[Column]:
    """Return the columns with texts shortened in the middle, as far as needed and possible."""
    shrunk = list(columns)
    while _total(shrunk, gap) > width:
        texts = [column for column in shrunk if not (column.number or column.complete) and column.width > shortest]
        widest = max(texts, key=lambda column: max(map(cell_len, column.cells)), default=None)
        longest = max(map(cell_len, widest.cells)) if widest else 0
        if widest is None or longest <= shortest:
            break
        target = max(shortest, longest - (_total(shrunk, gap) - width))
        cells = [shortened(cell, target) for cell in widest.cells]
        shrunk[shrunk.index(widest)] = replace(widest, cells=cells)
    return shrunk


def _table(columns: Sequence[Column], gap: int, dim_repeats: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, gap, 0, 0))
    for column in columns:
        side = "right" if column.number else "left"
        table.add_column(column.heading, justify=side, width=column.width, no_wrap=True)  # type: ignore[arg-type]
    previous: Sequence[str] = [""] * len(columns)
    for row in zip(*(column.cells for column in columns), strict=True):
        repeated = [dim_repeats and not column.number for column in columns]
        styles = [
            "dim" if may_repeat and cell == above else ""
            for may_repeat, cell, above in zip(repeated, row, previous, strict=True)
        ]
        table.add_row(*map(Text, row, styles))
        previous = row
    return table


def _list(columns: Sequence[Column], width: int) -> Iterator[RenderableType]:
    """Yield each row as its texts, and below them its numbers with their headings, as many on a line as fit."""
    for row in zip(*(column.cells for column in columns), strict=True):
        pairs = [(column, cell) for column, cell in zip(columns, row, strict=True) if cell]
        texts = [
            cell if column.complete else shortened(cell, width)
            for column, cell in pairs
            if column.heading and not column.number
        ]
        items = [f"{column.heading} {cell}" for column, cell in pairs if column.number]
        items += [cell for column, cell in pairs if not column.heading]
        yield from (Text(line) for line in _wrapped(texts, " · ", width))
        yield from (Text(f"  {line}") for line in _wrapped(items, "   ", width - 2))


def _wrapped(items: Sequence[str], separator: str, width: int) -> Iterator[str]:
    """Yield lines of these items. A line is wider than `width` only if its single item is."""
    line = ""
    for item in items:
        if line and cell_len(f"{line}{separator}{item}") > width:
            yield line
            line = ""
        line = f"{line}{separator}{item}" if line else item
    if line:
        yield line
