"""Names of classes: their spellings, WordNet numbers, nearest names, and names that are only numbers.

Two names are compared without regard to case, to `_`, `-` and spaces, to Unicode's forms of one text and to leading
zeros.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from visionbench.core import ConfigError

MAPPING = "data.options.classes"
NAMES_SHOWN = 5
"""Number of classes that a message names; the others are counted."""
SIMILAR = 0.6
"""Smallest similarity of two names (difflib's ratio) at which one is suggested for the other."""
NUMBER_AT_START = re.compile(r"n\d{8}(?!\d)")
NUMBER_AT_END = re.compile(r" \((n\d{8})\)$")
"""The WordNet number that is appended to a name which two classes share."""
QUOTES = str.maketrans("‘’ʼ`", "''''")


def normalize(name: str) -> str:
    """Return the form that all spellings of one name have in common."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).translate(QUOTES)
    kinds = [(character, unicodedata.category(character)) for character in text]
    spaced = "".join(" " if kind in ("Pc", "Pd", "Zs", "Cc") else "" if kind == "Cf" else c for c, kind in kinds)
    return " ".join(word.lstrip("0") or "0" if word.isdigit() else word for word in spaced.split())


def make_unique(names: Sequence[str]) -> list[str]:
    """Return the names in order; a name that several classes share is followed by the index of its class."""
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} ({index})" for index, name in enumerate(names)]


def check_distinct(names: Mapping[str, str]) -> None:
    """Raise ConfigError if the names of two data classes differ only in spelling. `names` is by data class."""
    known: dict[str, str] = {}
    for name, text in names.items():
        if (other := known.setdefault(normalize(text), name)) != name:
            raise ConfigError(
                f"the data's classes '{other}' and '{name}' are one class by their names",
                "merge their folders, or rename one",
            )


def find_nearest(name: str, known: Iterable[str], most: int = NAMES_SHOWN) -> list[str]:
    """Return the known names that are most similar to a name, the most similar first."""
    by_spelling = {normalize(name): name for name in reversed(list(dict.fromkeys(known)))}
    matches = difflib.get_close_matches(normalize(name), by_spelling, n=most, cutoff=0.0)
    return [by_spelling[match] for match in matches]


def are_similar(name: str, other: str) -> bool:
    """Return whether two names are similar enough to suggest one for the other."""
    return difflib.SequenceMatcher(None, normalize(name), normalize(other)).ratio() >= SIMILAR


def is_only_number(name: str) -> bool:
    """Return whether a name is a WordNet number or a numbered `label` or `class`, so that it describes nothing."""
    return bool(re.fullmatch(r"(n\d{8}|label[ _-]?\d+|class[ _-]?\d+)", name, re.IGNORECASE))


def begins_with_number(name: str) -> bool:
    """Return whether a number precedes the words, as in `001.Laysan_Albatross` and `n02085620-Chihuahua`."""
    return bool(re.match(r"(n\d{8}|\d+)[ ._-]+[^\W\d_]", name))


def find_number(name: str) -> str:
    """Return the WordNet number at the start or end of a name, or '' if it has none."""
    if match := NUMBER_AT_START.match(name):
        return match[0]
    match = NUMBER_AT_END.search(name)
    return match[1] if match else ""


def remove_number(name: str) -> str:
    """Return a name without the WordNet number at its start and the separator after it."""
    match = NUMBER_AT_START.match(name)
    return name[match.end() :].strip(" _-:,") if match else name


def quote(names: Sequence[str]) -> str:
    """Return the first few names in quotes, followed by the number of all names if there are more."""
    more = f", … ({len(names)} in all)" if len(names) > NAMES_SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:NAMES_SHOWN]) + more
