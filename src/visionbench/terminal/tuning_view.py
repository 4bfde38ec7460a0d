"""A search of `visionbench tune` in the terminal: what is searched, and the tables of the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import table
from rich.console import Group, RenderableType
from rich.text import Text


@dataclass(frozen=True)
class Table:
    """A table of texts. The first `texts` columns and, with `ends_in_text`, the last one are text."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 2
    ends_in_text: bool = True

    @property
    def text_columns(self) -> tuple[int, ...]:
        """The indices of the columns of text."""
        return (*range(self.texts), *([len(self.headings) - 1] if self.ends_in_text else []))


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
    shown.title, shown.title_justify, shown.title_style = content.title, "left", "bold"
    for index, heading in enumerate(content.headings):
        text = index in content.text_columns
        shown.add_column(heading, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for row in content.rows:
        shown.add_row(*row)
    return shown


def _lines(lines: Sequence[str], style: str = "") -> Iterator[RenderableType]:
    yield from (Text(f"  {line}", style=style) for line in lines)
