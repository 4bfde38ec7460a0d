"""Remove a key from texts of an endpoint: a server may echo it in an error, in a redirect or in an answer."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import quote

from visionbench.credentials import public

PART = 6
"""The least length of a part of the key that is removed."""
HIDDEN = "…"
MOST_CHARACTERS = 160
"""The longest message of a server that is shown."""


@dataclass(frozen=True)
class Scrubber:
    """Removes a key. Without a key, texts keep their words."""

    key: str = field(repr=False)
    _encoded: tuple[str, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        raw = self.key.encode()
        variants = {quote(self.key, safe=""), raw.hex(), self.key[::-1]}
        for text in (raw, b"Bearer " + raw):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                variants.add(encode(text).decode().rstrip("="))
        object.__setattr__(self, "_encoded", tuple(sorted(variants, key=len, reverse=True)) if self.key else ())

    def clean(self, text: str) -> str:
        """Return a text without the key, without its encoded forms, and without longer parts of it."""
        if not self.key:
            return public(text)
        for variant in self._encoded:
            text = re.sub(re.escape(variant), HIDDEN, text, flags=re.IGNORECASE)
        lower, key = text.lower(), self.key.lower()
        parts = {key[start : start + PART] for start in range(len(key) - PART + 1)}
        hidden = [False] * len(text)
        if len(lower) == len(text):
            for start in range(len(lower) - PART + 1):
                if lower[start : start + PART] in parts:
                    hidden[start : start + PART] = [True] * PART
        pieces = []
        for index, character in enumerate(text):
            if not hidden[index]:
                pieces.append(character)
            elif not index or not hidden[index - 1]:
                pieces.append(HIDDEN)
        return public("".join(pieces))

    def message(self, text: object) -> str:
        """Return a message of a server in one line of limited length, without the key; empty if it is no text."""
        if not isinstance(text, str):
            return ""
        line = " ".join(self.clean(text[: 20 * MOST_CHARACTERS]).split())
        line = "".join(character for character in line if character.isprintable())
        return line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]}{HIDDEN}"
