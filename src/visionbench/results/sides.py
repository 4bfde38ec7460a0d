"""The two sides of a comparison: runs of equal conditions, their cases, and which side is compared with which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from visionbench.core import OK, VALID, CaseResult, Reason
from visionbench.results import conditions, summary
from visionbench.results.archive import Run

ACROSS = "across/"
"""The prefix of series with one value per process."""


@dataclass(frozen=True)
class CaseOnSide:
    """A case on one side: its rows, one per run, and for each row the series with the values of its processes."""

    rows: tuple[CaseResult, ...]
    series: tuple[Mapping[str, np.ndarray], ...]
    runs: tuple[Run, ...] = ()

    @property
    def validity(self) -> str:
        """The worst verdict of the rows."""
        return summary.verdict(self.rows) or VALID

    @property
    def reasons(self) -> list[Reason]:
        """The reasons for the verdict: each kind once, from the first row that has it, with the number of rows."""
        first: dict[str, Reason] = {}
        counts: Counter[str] = Counter()
        measured = [row for row in self.rows if row.status == OK]
        for row in measured:
            kinds = {reason.kind: reason for reason in reversed(row.validity.reasons)}
            first = {**kinds, **first}
            counts.update(kinds.keys())
        return [
            Reason(kind, f"{reason.detail} (in {counts[kind]} of {len(measured)} runs)")
            if len(measured) > 1
            else reason
            for kind, reason in first.items()
        ]

    def has(self, metric: str) -> bool:
        """Return whether the metric was requested, with or without a value."""
        return any(metric in row.metrics.values for row in self.rows)

    def values(self, metric: str) -> np.ndarray:
        """Return the value of the metric in each process that has one."""
        known = [
            series.get(ACROSS + metric, np.array([value]))
            for row, series in zip(self.rows, self.series, strict=True)
            if row.status == OK and (value := row.metrics.values.get(metric)) is not None
        ]
        return np.concatenate(known) if known else np.empty(0)

    def reason_without_value(self, metric: str) -> str:
        """Return the reason why the metric has no value."""
        return next((row.metrics.reasons[metric] for row in self.rows if metric in row.metrics.reasons), "unknown")


@dataclass(frozen=True)
class Side:
    """Runs of one model, device and precision under equal conditions, in the order of their start."""

    runs: tuple[Run, ...]

    @property
    def binding(self) -> Mapping[str, str]:
        """The conditions that the other side must share."""
        return {name: value for run in reversed(self.runs) for name, value in conditions.binding(run).items()}

    @property
    def remarked(self) -> Mapping[str, str]:
        """The conditions that are reported if the other side differs."""
        return {name: value for run in reversed(self.runs) for name, value in conditions.remarked(run).items()}

    @property
    def cases(self) -> dict[str, CaseResult]:
        """One row of each case, by the id of the case."""
        return {row.case.id: row for run in self.runs for row in run.results}

    @property
    def starts(self) -> list[str]:
        """The start time of each process."""
        return sorted(start for run in self.runs for start in run.record.starts)

    def measured(self, case: str) -> CaseOnSide:
        """Return the rows of a case, from all runs that have it."""
        pairs = [(row, run) for run in self.runs for row in run.results if row.case.id == case]
        rows, runs = tuple(row for row, _ in pairs), tuple(run for _, run in pairs)
        return CaseOnSide(rows, tuple(_processes(run, row) for row, run in pairs), runs)


def key(run: Run) -> tuple[str, str, str]:
    """Return the model, the kind of device and the precision, which both sides of a comparison share."""
    plan = run.record.plan
    return plan.model, plan.device.partition(":")[0], plan.precision


def sides(runs: Sequence[Run]) -> list[Side]:
    """Group runs by their known conditions, in the order of their start."""
    groups: list[list[Run]] = []
    known: list[dict[str, str]] = []
    for run in sorted(runs, key=lambda run: run.record.started_at):
        facts = {**conditions.remarked(run), **conditions.binding(run)}
        same = (index for index, shared in enumerate(known) if not conditions.differences(shared, facts))
        if (index := next(same, None)) is None:
            groups.append([run])
            known.append(facts)
        else:
            groups[index].append(run)
            known[index] |= facts
    return [Side(tuple(group)) for group in groups]


def pairs(base: list[Side], candidate: list[Side], notes: list[str]) -> Iterator[tuple[Side | None, Side | None]]:
    """Yield pairs of the newest sides of equal conditions, then pairs of the remaining sides, the newest first."""
    if len(base) == len(candidate) == 1:
        yield base[0], candidate[0]
        return
    bases, candidates = (
        _newest(side_list, name, notes) for side_list, name in ((base, "base"), (candidate, "candidate"))
    )
    for old in list(bases):
        for new in candidates:
            if not conditions.differences(old.binding, new.binding):
                yield old, new
                bases.remove(old)
                candidates.remove(new)
                break
    yield from zip_longest(bases, candidates)


def _newest(candidates: list[Side], name: str, notes: list[str]) -> list[Side]:
    """Return the newest of sides that differ only in commit or versions; add a note about each older side."""
    newest: list[Side] = []
    for side in reversed(candidates):
        newer = next((one for one in newest if not conditions.differences(one.binding, side.binding)), None)
        if newer is None:
            newest.append(side)
            continue
        names = [line.partition(":")[0] for line in conditions.differences(side.remarked, newer.remarked)]
        notes.append(
            f"{side.runs[0].name}: the {name} has older runs that differ in {', '.join(names)}; "
            f"those of {newer.runs[-1].record.started_at} are compared"
        )
    return newest


def labels(paired: Sequence[tuple[Side | None, Side | None]]) -> list[str]:
    """Return the name of each run, with the conditions that differ if several pairs have the same name."""
    first = [[side for side in pair if side][0] for pair in paired]
    names = [side.runs[0].name for side in first]
    texts = []
    for name, side in zip(names, first, strict=True):
        namesakes = [one.binding for other, one in zip(names, first, strict=True) if other == name]
        binding = side.binding
        different = [key for key in binding if any(binding[key] != other.get(key) for other in namesakes)]
        texts.append(", ".join([name, *(f"{key} {binding[key]}" for key in different)]))
    return texts


def _processes(run: Run, row: CaseResult) -> Mapping[str, np.ndarray]:
    if run.folder is None or run.record.repeats is None or row.status != OK:
        return {}
    return run.folder.samples(row.case.id).series
