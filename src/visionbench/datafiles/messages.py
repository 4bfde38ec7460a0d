"""Parts of messages: the first few of many names, and names that may contain characters which cannot be printed."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from itertools import islice

SHOWN = 3
"""Number of items that a message lists; the others are counted."""
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, lone surrogates, and separators of lines and paragraphs."""


def list_first(items: Collection[str], most: int = SHOWN, noun: str = "") -> str:
    """Return the first items on one line, and the number of the others: `a, b, c, and 2 more`, or `2 more <noun>`."""
    more = [f"and {len(items) - most} more {noun}".rstrip()] if len(items) > most else []
    return ", ".join([*islice(items, most), *more])


def quote_first(names: Iterable[str], most: int = 5) -> str:
    """Return the first names in quotes, and the number of the others: `'a', 'b' and 3 more`."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(f"'{name}'" for name in listed[:most]) + more


def escape_unprintable(name: str) -> str:
    """Return a name in which characters that would end a line, or cannot be encoded, are escaped."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in UNPRINTABLE else character
        for character in name
    )
