"""The console that commands print to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from visionbench.core import visible
from visionbench.core.text import CONTROLS

UNLIMITED_WIDTH = 10_000
"""A width in columns that is larger than any line."""


class SafeConsole(Console):
    """A console that shows a replacement character for each character that could control the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of a renderable without control characters, other than those that rich adds."""
        for segment in super().render(renderable, options):
            if segment.control is None and CONTROLS.search(segment.text):
                yield Segment(visible(segment.text), segment.style)
            else:
                yield segment


def screen(**options: Any) -> Console:
    """Return a rich console with these options.

    Lines in a pipe or a file are not wrapped, so that `grep` finds them. `COLUMNS` in the environment sets a width.
    """
    console = SafeConsole(**options)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNLIMITED_WIDTH
    return console
