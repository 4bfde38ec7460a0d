"""The captions of an image, and their problems."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from visionbench.core import Example

EMPTY_CAPTION = "an empty caption"
BLANK = ("Cc", "Cf", "Zl", "Zp", "Zs")
"""Unicode categories of characters that are not visible: control and format characters, separators and spaces."""
INVISIBLE = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and symbols that are not visible: Hangul fillers and the empty Braille pattern."""
MISSING_VALUES = frozenset({"nan", "none", "null", "n/a", "#n/a", "<na>"})
"""Texts, in lower case, that programs write for a missing value."""
LIST_AS_TEXT = re.compile(r"""\[\s*['"].*['"]\s*,?\s*\]""", re.DOTALL)
"""A list of texts, as Python or JSON writes it."""


def make_captioned(id: str, image: Path, captions: Sequence[Any], problems: Sequence[str] = ()) -> Example:
    """Return an example with its captions, stripped, and its problems, to which those of the captions are added."""
    every = (*problems, *find_caption_problems(captions), *([] if captions else ["no caption"]))
    return Example(id, image, captions=tuple(str(text).strip() for text in captions), problems=every)


def find_caption_problems(captions: Iterable[Any]) -> tuple[str, ...]:
    """Return the problems of an image's captions: no text, an empty text, or a text that is not a caption."""
    every = list(captions)
    problems = []
    if any(isinstance(text, list | dict) for text in every):
        problems.append("a caption that is a list or an object, not text")
    if any(not isinstance(text, list | dict) and (not isinstance(text, str) or _is_blank(text)) for text in every):
        problems.append(EMPTY_CAPTION)
    texts = [text.strip() for text in every if isinstance(text, str)]
    if missing := next((text for text in texts if text.lower() in MISSING_VALUES), None):
        problems.append(f"a caption that is only '{missing}', which denotes a missing value")
    if any(LIST_AS_TEXT.fullmatch(text) for text in texts):
        problems.append("a caption that is a list of captions in one cell: write each caption in its own row")
    if any(has_surrogate(text) for text in every if isinstance(text, str)):
        problems.append("a caption with half a character (a lone surrogate)")
    return tuple(problems)


def has_surrogate(text: str) -> bool:
    """Return whether a text contains half a character (\\ud800 to \\udfff), which cannot be encoded."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _is_blank(text: str) -> bool:
    """Return whether no character of a text is visible."""
    return all(character in INVISIBLE or unicodedata.category(character) in BLANK for character in text)
