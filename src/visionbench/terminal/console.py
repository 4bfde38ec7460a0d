"""Where commands print."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console

UNBROKEN = 10_000
"""Columns that no line of ours fills."""


def screen(**options: Any) -> Console:
    """A console of rich's with these options. In a pipe or a file lines are not broken, so that `grep` and the reader
    of a log have them whole; `COLUMNS` in the environment gives a width all the same."""
    console = Console(**options)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBROKEN
    return console
