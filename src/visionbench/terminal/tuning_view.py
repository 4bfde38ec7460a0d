"""A search of `visionbench tune` in the terminal: what is searched, and the tables of the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import table
from rich.console import Group, RenderableType
from rich.text import Text


@dataclass(frozen=True)
class Table:
    """A table of texts. The first `texts` columns and the last one are text, the others are numbers."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 2


@dataclass(frozen=True)
class Words:
    """Sentences and tables of a search."""

    title: str
    lines: Sequence[str]
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


def plan(words: Words) -> RenderableType:
    """Return what is searched."""
    return Group(Text(words.title, style="bold"), *_lines(words.lines), *_lines(words.notes, "dim"), Text())


def result(words: Words) -> RenderableType:
    """Return the tables, the result in sentences, and how to read them."""
    tables = [part for each in words.tables for part in (_table(each), Text())]

    title = Text(words.title, style="bold")
    return Group(Text(), *tables, title, *_lines(words.lines), *_lines(words.notes, "dim"), Text())


def _table(content: Table) -> table.Table:
    shown = table.Table(box=None, pad_edge=False, header_style="bold")
    last = len(content.headings) - 1
    for index, heading in enumerate(content.headings):
        text = index < content.texts or index == last
        shown.add_column(heading, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for row in content.rows:
        shown.add_row(*row)
    return shown


def _lines(lines: Sequence[str], style: str = "") -> Iterator[RenderableType]:
    yield from (Text(f"  {line}", style=style) for line in lines)
