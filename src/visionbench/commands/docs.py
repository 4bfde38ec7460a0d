"""`visionbench docs`: list the documents that are installed with visionbench, or show one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from visionbench.config import project_folder
from visionbench.core import ConfigError
from visionbench.registry import nearest
from visionbench.terminal.console import screen

INDEX = "README.md"
ENTRY = re.compile(r"^\| \[[^\]]+\]\((?P<path>[\w./-]+)\.md\) \| (?P<content>.+?) \|$", re.MULTILINE)
"""A row of the index: the path of a document without its ending, and its content."""


def show(name: str | None) -> int:
    """Print the names of the documents in reading order with their folder, or the text of one document."""
    folder = project_folder("docs")
    if name is None:
        console = screen()
        entries = list(index(folder))
        width = max(len(path) for path, _ in entries)
        for path, content in entries:
            console.print(f"{path:<{width}}  {content}", soft_wrap=True, highlight=False, markup=False)
        console.print(f"\nvisionbench docs NAME shows one. Folder: {folder}", soft_wrap=True, highlight=False)
        return 0
    text = find(name, folder).read_text("utf-8")
    if screen().is_terminal:
        click.echo_via_pager(text)
    else:
        click.echo(text, nl=False)
    return 0


def index(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the content of each document of the index, in reading order."""
    for match in ENTRY.finditer((folder / INDEX).read_text("utf-8")):
        yield match["path"], match["content"]


def find(name: str, folder: Path) -> Path:
    """Return the path of a document, given as `comparing`, `comparing.md` or `docs/comparing.md`.

    Raises ConfigError with the nearest name if there is no such document.
    """
    short = name.removeprefix("docs/").removesuffix(".md")
    names = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.md")}
    if short in names:
        return names[short]
    raise ConfigError(f"docs {name}: there is no such document{nearest(short, names)}")
