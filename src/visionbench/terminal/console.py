"""The console that commands print to."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console

UNLIMITED_WIDTH = 10_000
"""A width in columns that is larger than any line."""


def screen(**options: Any) -> Console:
    """Return a rich console with these options.

    Lines in a pipe or a file are not wrapped, so that `grep` finds them. `COLUMNS` in the environment sets a width.
    """
    console = Console(**options)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNLIMITED_WIDTH
    return console
