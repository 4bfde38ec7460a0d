"""Text from results and errors, made safe for a terminal or a line of a document."""

from __future__ import annotations

import re

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
"""Characters that control a terminal, or change the direction of the text around them. Tab and line feed are left."""
REPLACEMENT = "\ufffd"
LONGEST_WORD = 300
LONGEST_MESSAGE = 2000
LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def visible(text: str) -> str:
    """Return the text with a replacement character for each character that could control a terminal."""
    return CONTROLS.sub(REPLACEMENT, text)


def one_line(text: str) -> str:
    """Return the text as one line, without characters that could control a terminal."""
    return visible(" ".join(text.split()))


def shortened(text: str) -> str:
    """Return a message without the middle of words, and of a text, that are too long for a terminal."""
    return _without_middle(LONG_WORD.sub(lambda word: _without_middle(word[0], LONGEST_WORD), text), LONGEST_MESSAGE)


def _without_middle(text: str, longest: int) -> str:
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"
