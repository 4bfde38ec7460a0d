"""The advice in the terminal: sentences that wrap between words, and commands that can be copied."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.text import Text

INDENT = "  "
CONTINUED = " \\"
"""The end of a line of a command that continues on the next line."""


@dataclass(frozen=True)
class Block:
    """Sentences with a heading."""

    heading: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Part:
    """The advice for one task. The first line of `choice` is the recommendation."""

    title: str
    choice: Sequence[str]
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Steps:
    """Commands with their purposes, below a heading."""

    heading: str
    commands: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Wrapped:
    """A sentence that is wrapped between words, with its continuation lines indented."""

    text: str
    style: str = ""
    indent: str = INDENT

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for index, line in enumerate(Text(self.text).wrap(console, max(20, options.max_width - 2 * len(INDENT)))):
            more = "" if index == 0 else INDENT
            yield Text(f"{self.indent}{more}{line.plain.rstrip()}", style=self.style, no_wrap=True)


@dataclass(frozen=True)
class _Command:
    """A command that is continued on the next line with a backslash, so that it can be copied."""

    command: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = options.max_width - len(CONTINUED)
        lines = [INDENT]
        for word in re.findall(r"(?:'[^']*'|\S)+", self.command):
            if lines[-1].strip() and len(lines[-1]) + len(word) + 1 > width:
                lines[-1] += CONTINUED
                lines.append(2 * INDENT)
            lines[-1] += f"{' ' if lines[-1].strip() else ''}{word}"
        yield from (Text(line, no_wrap=True, overflow="ignore") for line in lines)


def render(parts: Sequence[Part], steps: Steps, notes: Sequence[str]) -> RenderableType:
    """Return the advice for each task, the next commands, and notes such as the rule."""
    return Group(*(line for part in parts for line in _part(part)), *_steps(steps), *(_note(note) for note in notes))


def _part(part: Part) -> Iterator[RenderableType]:
    yield _Wrapped(part.title, "dim", "")
    for index, line in enumerate(part.choice):
        yield _Wrapped(line[:1].upper() + line[1:], "bold", "") if index == 0 else _Wrapped(line)
    yield Text()
    for block in part.blocks:
        yield Text(block.heading, style="bold")
        yield from map(_Wrapped, block.lines)
        yield Text()


def _steps(steps: Steps) -> Iterator[RenderableType]:
    if steps.commands:
        yield Text(steps.heading, style="bold")
        for purpose, command in steps.commands:
            yield _Wrapped(f"# {purpose}", "dim")
            yield _Command(command)
        yield Text()


def _note(note: str) -> RenderableType:
    return _Wrapped(note, "dim", "")
