"""The choices of a resumed command: the words of `retry` and `on_change`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visionbench.core import (
    FAILED,
    INTERRUPTED,
    INVALID,
    KILLED,
    LOST,
    NOT_RUN,
    OK,
    OUT_OF_MEMORY,
    SKIPPED_AFTER_OOM,
    VALID,
    WARNED,
    CaseResult,
    ConfigError,
)
from visionbench.registry import nearest

REFUSE, MEASURE, KEEP = "refuse", "measure", "keep"
ON_CHANGE = (REFUSE, MEASURE, KEEP)
ALL = "all"
WORDS = {
    FAILED: (FAILED, KILLED, INTERRUPTED, NOT_RUN),
    KILLED: (KILLED,),
    INTERRUPTED: (INTERRUPTED,),
    NOT_RUN: (NOT_RUN,),
    LOST: (),
    OUT_OF_MEMORY: (OUT_OF_MEMORY, SKIPPED_AFTER_OOM),
    SKIPPED_AFTER_OOM: (SKIPPED_AFTER_OOM,),
    INVALID: (INVALID,),
    WARNED: (WARNED,),
    VALID: (VALID,),
    ALL: (FAILED, KILLED, INTERRUPTED, NOT_RUN, OUT_OF_MEMORY, SKIPPED_AFTER_OOM, INVALID, WARNED, VALID),
}
"""The words of `retry`, with the statuses and verdicts that each names. A lost case has no row, so it is measured."""
DEFAULT = (FAILED, INVALID)


@dataclass(frozen=True)
class Choices:
    """The results that are measured again, and the treatment of results of other conditions."""

    retried: frozenset[str]
    on_change: str = REFUSE
    with_overrides: bool = False
    """Whether the command has overrides, and does not repeat the command of the sweep."""

    @classmethod
    def parse(cls, retry: Sequence[str] = (), on_change: str | None = None, with_overrides: bool = False) -> Choices:
        """Return the choices of these words. Raises ConfigError for an unknown word."""
        for word in retry:
            if word not in WORDS:
                raise ConfigError(f"retry={','.join(retry)}: there is no result '{word}'{nearest(word, WORDS)}")
        if on_change is not None and on_change not in ON_CHANGE:
            raise ConfigError(f"on_change={on_change}: no such value{nearest(on_change, ON_CHANGE)}")
        words = retry or DEFAULT
        return cls(frozenset(name for word in words for name in WORDS[word]), on_change or REFUSE, with_overrides)

    def reason_to_measure(self, row: CaseResult | None) -> str | None:
        """Return why a case is measured, or None if its result is kept."""
        if row is None:
            return "no result"
        return describe(row) if judged(row) in self.retried else None


def judged(row: CaseResult) -> str:
    """Return the verdict of a case with numbers, or the status of another case."""
    return row.validity.verdict if row.status == OK else row.status


def describe(row: CaseResult) -> str:
    """Return the result of a case in a few words: `valid`, `invalid: run_delay`, `out of memory`."""
    kinds = dict.fromkeys(reason.kind for reason in row.validity.reasons)
    return ": ".join(filter(None, [judged(row).replace("_", " "), ", ".join(kinds)]))
