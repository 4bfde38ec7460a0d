"""Text as a part of a Markdown document, so that names and reasons cannot change the document."""

from __future__ import annotations

import re

from visionbench.core import one_line

BACKSLASH = re.compile(r"\\(?=[!-/:-@\[-`{-~])")
"""A backslash before punctuation, which would escape it."""
MARKS = re.compile(r"[`*~|]|(?<!\w)_|_(?!\w)|\](?=[(\[:])")
"""Characters that begin or end code, emphasis, a cell or a link. An underline within a word has no effect."""
ENTITY = re.compile(r"&(?=#?\w+;)")
BLOCK = re.compile(r"(?=>|[-+#=]+(\s|$)|\d+[.)]\s)")
"""The beginning of a line that would be a heading, a list or a quotation."""


def escaped(text: str) -> str:
    """Return a text as one line that Markdown shows as it is, also as a cell of a table."""
    line = BACKSLASH.sub(r"\\\\", one_line(text))
    return ENTITY.sub("&amp;", MARKS.sub(r"\\\g<0>", line)).replace("<", "&lt;")


def item(text: str) -> str:
    """Return a text as the content of a list item or of a paragraph."""
    line = escaped(text)
    if not BLOCK.match(line):
        return line
    return re.sub(r"^(\d+)?", lambda match: f"{match.group()}\\", line, count=1)
