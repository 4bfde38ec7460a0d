"""The exit code of a comparison and its meaning, for automatic checks."""

from __future__ import annotations

from dataclasses import dataclass

from visionbench.results.comparison import NO_REGRESSION, ONLY_IN_BASE, Comparison

PASSED, FAILED, UNDECIDED = 0, 1, 3
"""The exit codes: no regression; a regression; undecided. Code 2 is bad input."""
MOST_QUESTIONS = 3
"""The most open questions that the last line names."""


@dataclass(frozen=True)
class Outcome:
    """The exit code of a comparison, and the reason for it in one sentence."""

    exit_code: int
    meaning: str

    def __str__(self) -> str:
        return f"exit code {self.exit_code}: {self.meaning}"


def judge(comparison: Comparison, strict: bool = False, accept_undecided: bool = False) -> Outcome:
    """Return the outcome: a regression fails; an undecided comparison fails unless it is accepted.

    With `strict`, each undecided metric fails, too.
    """
    undecided, decided = len(comparison.undecided), len(comparison.decided)
    if comparison.regressions:
        pairs = {row.run for row in comparison.rows if not row.unpaired}
        worse = {row.run for row in comparison.regressions}
        return Outcome(FAILED, f"regression in {len(worse)} of {_count(len(pairs), 'compared run')}")
    if strict and (undecided or comparison.verdict != NO_REGRESSION):
        of_all = f"{undecided} of {_count(undecided + decided, 'metric')}"
        return Outcome(FAILED, f"no regression, but {of_all} undecided, which --strict does not accept")
    if comparison.verdict == NO_REGRESSION:
        left_out = len({row.run for row in comparison.rows if row.unpaired and row.verdict == ONLY_IN_BASE})
        parts = [f"{decided} of {_count(undecided + decided, 'metric')} decided, none is worse"]
        if undecided:
            parts.append(f"{undecided} undecided")
        if left_out:
            parts.append(f"cases of {_count(left_out, 'run')} are only in the base")
        return Outcome(PASSED, f"no regression; {', '.join(parts)}")
    questions = _questions(comparison)
    if accept_undecided:
        return Outcome(PASSED, f"undecided, which --undecided ok accepts; {questions}")
    return Outcome(UNDECIDED, f"undecided; {questions}; --undecided ok accepts this")


def _questions(comparison: Comparison) -> str:
    """Return the open questions, those about the same kind of metric together."""
    if not comparison.open_questions:
        return "nothing was compared"
    by_question: dict[str, list[str]] = {}
    for run, question in comparison.open_questions:
        by_question.setdefault(question, []).append(run)
    texts = []
    for question, runs in by_question.items():
        more = [f"{len(runs) - 1} more"] if len(runs) > 1 else []
        texts.append(f"the {question} of {' and '.join([runs[0], *more])}")
    others = f" and {len(texts) - MOST_QUESTIONS} more" if len(texts) > MOST_QUESTIONS else ""
    return f"no decision about {', '.join(texts[:MOST_QUESTIONS])}{others}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
