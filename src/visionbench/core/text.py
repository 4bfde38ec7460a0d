"""Text from results and errors, made safe for a terminal or a line of a document."""

from __future__ import annotations

import re

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
"""Characters that control a terminal, or change the direction of the text around them. Tab and line feed are left."""
REPLACEMENT = "\ufffd"


def visible(text: str) -> str:
    """Return the text with a replacement character for each character that could control a terminal."""
    return CONTROLS.sub(REPLACEMENT, text)


def one_line(text: str) -> str:
    """Return the text as one line, without characters that could control a terminal."""
    return visible(" ".join(text.split()))
