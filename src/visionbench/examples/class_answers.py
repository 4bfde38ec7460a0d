"""Match the answer of a model in words with one class of a list that its prompt contains."""

from __future__ import annotations

import re
from collections.abc import Sequence

from visionbench.examples.class_names import normalize

NUMBERED = re.compile(r"\(?(\d+)\s*[.):]?\s*(.*)", re.DOTALL)
AROUND = " \t\r\n.,;:!?\"'`*_()[]{}<>“”„‘’«»"
"""The characters around an answer that are no part of it."""
LEADS = ("answer:", "class:", "the answer is", "the class is")
"""The beginnings of an answer that are no part of it, after normalisation."""


def list_classes(classes: Sequence[str]) -> str:
    """Return the list of classes in a prompt: one in each line, with its number."""
    return "\n".join(f"{number}. {name}" for number, name in enumerate(classes, 1))


def find_class(answer: str, classes: Sequence[str]) -> int | None:
    """Return the index of the class that an answer names, or None if it names no class, or more than one.

    A name must be complete; spelling counts as in `class_names.normalize`. Otherwise the answer is the number of a
    class in `list_classes`, alone or followed by the name of that class.
    """
    names = {normalize(name.strip(AROUND)): index for index, name in enumerate(classes)}
    text = answer.strip(AROUND)
    for candidate in (text, *(text[len(lead) :].strip(AROUND) for lead in LEADS if text.casefold().startswith(lead))):
        if (index := names.get(normalize(candidate))) is not None:
            return index
        if match := NUMBERED.fullmatch(candidate):
            number, rest = int(match[1]), match[2].strip(AROUND)
            named = names.get(normalize(rest)) if rest else number - 1
            if 1 <= number <= len(classes) and named == number - 1:
                return named
    return None
