"""Answers in OpenAI's format, and the text of a stream that grows with its tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

REPLACEMENT = "\ufffd"
"""The sign for bytes that are not yet a character."""


@dataclass(frozen=True)
class Usage:
    """The tokens of a request and of its answer."""

    prompt: int
    """The tokens that the language model reads: those of the prompt, and those in whose place it reads the image."""
    completion: int
    """The tokens that were written, including the end token."""

    def content(self) -> dict[str, int]:
        """Return the object `usage`."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


@dataclass(frozen=True)
class Envelope:
    """What the answer and all chunks of a stream share."""

    id: str
    created: int
    model: str

    def completion(self, text: str, finish: str, usage: Usage) -> dict[str, Any]:
        """Return a complete answer."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [choice],
            "usage": usage.content(),
        }

    def chunk(self, delta: dict[str, str], finish: str | None = None, with_usage: bool = False) -> bytes:
        """Return an event of a stream. With `with_usage`, it has the key `usage`, which only the last event fills."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._event([choice], {"usage": None} if with_usage else {})

    def usage_chunk(self, usage: Usage) -> bytes:
        """Return the event with the usage of a stream."""
        return self._event([], {"usage": usage.content()})

    def _event(self, choices: list[dict[str, Any]], more: dict[str, Any]) -> bytes:
        content = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        return event({**content, **more})


def event(content: object) -> bytes:
    """Return a server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


END_OF_STREAM = b"data: [DONE]\n\n"


def cut(text: str, stops: Sequence[str]) -> str | None:
    """Return the text before the first of these strings in it, or None if it has none of them."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else None


@dataclass
class GrowingText:
    """The text of tokens that arrive one by one. A part is given out as soon as later tokens cannot change it."""

    to_text: Callable[[Sequence[int]], str]
    stops: Sequence[str] = ()
    joins_words: bool = False
    """Whether the last word may change with the next token. It is then kept back."""
    tokens: list[int] = field(default_factory=list)
    given: str = ""

    def add(self, token: int) -> str:
        """Add a token, and return the text that can be sent now."""
        self.tokens.append(token)
        text = self.to_text(self.tokens)
        if (before := cut(text, self.stops)) is not None:
            return self._give(before)
        if text.endswith(REPLACEMENT):
            return ""
        if self.joins_words:
            text = text[: max(text.rfind(" "), 0)]
        return self._give(text[: len(text) - self._kept_back(text)])

    def finish(self, text: str) -> str:
        """Return the rest of the complete text. Raises ValueError if it does not begin with the text that was given."""
        if not text.startswith(self.given):
            raise ValueError("the text has changed")
        return self._give(text)

    def _kept_back(self, text: str) -> int:
        """Return the length of the longest end of the text with which a stop string may begin."""
        lengths = [length for stop in self.stops for length in range(1, len(stop)) if text.endswith(stop[:length])]
        return max(lengths, default=0)

    def _give(self, text: str) -> str:
        if not text.startswith(self.given):
            return ""
        part = text[len(self.given) :]
        self.given = text
        return part
