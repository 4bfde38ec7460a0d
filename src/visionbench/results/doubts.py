"""The doubts about the cases of several runs, counted by their cause, with the next step for the main one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from visionbench.core import INVALID, OK, VALID, CaseResult
from visionbench.results.summary import RETRIED

MOST_CAUSES = 3
"""The number of causes in a sentence; the less frequent ones are in the details."""


@dataclass(frozen=True)
class Cause:
    """A cause of doubts: its description, and what a user can do about it."""

    name: str
    """A key for translations."""
    text: str
    remedy: str
    kinds: frozenset[str] = frozenset()
    """The reasons in `Validity.reasons` that have this cause."""


def _cause(name: str, text: str, remedy: str, *kinds: str) -> Cause:
    return Cause(name, text, remedy, frozenset(kinds))


CAUSES = (
    _cause(
        "paused",
        "the process was paused",
        "do not stop or suspend it, check free memory, and measure again",
        "paused",
    ),
    _cause(
        "busy cores",
        "other programs used the cores",
        "end them, check with 'visionbench doctor', and measure again",
        *("run_delay", "involuntary_switches"),
    ),
    _cause(
        "steal",
        "the hypervisor gave the cores to other virtual machines",
        "measure at another time or on another machine",
        "steal",
    ),
    _cause(
        "parallel",
        "other runs used the machine at the same time",
        "measure one run after the other for figures that count",
        "parallel",
    ),
    _cause(
        "unsteady",
        "the call times were not steady",
        "check with 'visionbench doctor', and measure with measure=standard or measure.repeats=5",
        *("warmup_unstable", "autocorrelated", "halves_differ"),
    ),
    _cause(
        "few calls", "there were too few calls for a narrow interval", "measure with measure=standard", "not_converged"
    ),
    _cause(
        "clocks",
        "the GPU reduced its clock rates",
        "improve the cooling or set lower fixed clock rates",
        *("thermal_throttling", "hardware_slowdown", "hardware_thermal_slowdown", "power_brake"),
    ),
    _cause("busy gpu", "another process used the GPU", "end it, or choose another device.index", "foreign_process"),
    _cause("recompiled", "torch compiled in a timed window", "measure with a longer warm-up", "recompiled"),
    _cause(
        "answers",
        "the model's answers are empty or equal for all images",
        "check the tokenizer, the processor and the checkpoint",
        *("answers_empty", "answers_equal"),
    ),
    _cause("processes", "some repeats have no results", "see their folders, repeats/N", "processes_lost"),
    _cause(
        "processes differ",
        "the processes of the repeats differ",
        "measure with measure.repeats=5 or more, and a longer measure.warmup.min_seconds",
        "processes_differ",
    ),
    _cause("clock", "the clock of the machine was changed", "use the duration, not the times of day", "clock_moved"),
    _cause(
        "part of the data",
        "the quality is over a part of the data",
        "see the counts in the report",
        *("sample", "pictures_left_out", "captions_used", "questions_used", "instances_used", "empty_masks"),
        *("images_without_captions", "pictures_without_instances", "classes_without_pictures", "other_endings"),
        *("captions_cut", "depth_out_of_range", "pictures_without_depth"),
    ),
)
"""Causes in the order of their importance. A reason of another kind is its own cause."""


@dataclass(frozen=True)
class Doubts:
    """The numbers of cases with a result that are questionable or invalid, and their causes."""

    cases: int
    """The cases that have numbers."""
    questionable: int
    invalid: int
    causes: tuple[tuple[Cause, int], ...]
    """Each cause with its number of cases: first the causes of the most invalid cases, then the most frequent ones."""

    @classmethod
    def of(cls, rows: Sequence[CaseResult]) -> Doubts:
        """Return the doubts about these rows. A case with several reasons counts once for each cause."""
        measured = [row for row in rows if row.status == OK]
        doubted = [row for row in measured if row.validity.verdict != VALID]
        counts: Counter[Cause] = Counter()
        counts_of_invalid: Counter[Cause] = Counter()
        for row in doubted:
            causes = {_cause_of(reason.kind) for reason in row.validity.reasons}
            counts.update(causes)
            counts_of_invalid.update(causes if row.validity.verdict == INVALID else ())
        ranked = sorted(counts, key=lambda cause: (-counts_of_invalid[cause], -counts[cause], _rank(cause)))
        invalid = sum(row.validity.verdict == INVALID for row in doubted)
        return cls(len(measured), len(doubted) - invalid, invalid, tuple((cause, counts[cause]) for cause in ranked))

    @property
    def doubted(self) -> int:
        """The number of cases that are questionable or invalid."""
        return self.questionable + self.invalid

    def sentence(self) -> str:
        """Return one sentence with the counts, the causes and the next step, or an empty text without doubts."""
        if not self.doubted:
            return ""
        return f"{self.counts()}{f': {self.reasons()}' if self.causes else ''}; {self.remedy()}"

    def counts(self) -> str:
        """Return a text such as `27 of 32 cases are questionable`, with the number of invalid cases."""
        if self.invalid and self.questionable:
            text = f"{_share(self.invalid, self.cases)} invalid and {self.questionable} questionable"
        else:
            text = f"{_share(self.doubted, self.cases)} {'invalid' if self.invalid else 'questionable'}"
        return text

    def reasons(self) -> str:
        """Return the most frequent causes; with several causes, each has its number of cases."""
        shown = self.causes[:MOST_CAUSES]
        if len(shown) == 1:
            return shown[0][0].text
        return ", ".join(f"{cause.text} ({count})" for cause, count in shown)

    def remedy(self) -> str:
        """Return the next step for the first cause."""
        return self.causes[0][0].remedy if self.causes else "see the report"


def retries(rows: Sequence[CaseResult]) -> int:
    """Return the number of windows that were invalid and were measured again, over all rows."""
    retried = (detail for row in rows for label, detail in row.labels.items() if RETRIED in label)
    return sum(len(detail.split("; attempt ")) for detail in retried)


def _share(count: int, total: int) -> str:
    if total == 1:
        return "the only case is"
    if count == total:
        return f"all {total} cases are"
    return f"{count} of {total} cases {'is' if count == 1 else 'are'}"


def _cause_of(kind: str) -> Cause:
    known = next((cause for cause in CAUSES if kind in cause.kinds), None)
    return known or Cause(kind, kind.replace("_", " "), f"see {kind} in visionbench docs faults", frozenset({kind}))


def _rank(cause: Cause) -> int:
    return CAUSES.index(cause) if cause in CAUSES else len(CAUSES)
