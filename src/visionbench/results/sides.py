"""The two sides of a comparison: runs of equal conditions, their cases, and which side is compared with which."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from visionbench.core import INTERRUPTED, KILLED, NOT_RUN, OK, PENDING, VALID, CaseResult, Reason
from visionbench.results import archive, conditions, summary
from visionbench.results.archive import Run
from visionbench.results.naming import Names
from visionbench.variation import SEPARATOR, base_parts

ACROSS = "across/"
"""The prefix of series with one value per process."""


UNRELATED = {"sweep", "started at", "uid"}
"""Labels of names that do not state a condition."""
STOPPED_BY = re.compile(r"killed by SIG(HUP|INT|KILL|TERM|XCPU)\b")
"""The signals that end a process from outside. Other signals, such as SIGSEGV, are errors of the process."""


@dataclass(frozen=True)
class CaseOnSide:
    """A case on one side: its rows, one per run, and for each row the series with the values of its processes."""

    rows: tuple[CaseResult, ...]
    series: tuple[Mapping[str, np.ndarray], ...]
    runs: tuple[Run, ...] = ()

    @property
    def failure(self) -> str:
        """The reason why the case has no numbers, or an empty text if one of its rows has numbers."""
        if not self.rows or any(row.status == OK for row in self.rows):
            return ""
        row = next((row for row in reversed(self.rows) if not is_unfinished(row)), self.rows[-1])
        return f"{row.status}: {row.reason}"

    @property
    def unfinished(self) -> bool:
        """Whether the case has no numbers because each of its runs was stopped, and none failed."""
        return bool(self.rows) and all(map(is_unfinished, self.rows))

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
    def identity(self) -> Mapping[str, str]:
        """The conditions that the other side must share, and the reported conditions that the user sets."""
        configured = {name: value for run in reversed(self.runs) for name, value in conditions.settings(run).items()}
        return {**configured, **self.binding}

    @property
    def cases(self) -> dict[str, CaseResult]:
        """One row of each case, by the id of the case."""
        return {row.case.id: row for run in self.runs for row in rows(run)}

    @property
    def starts(self) -> list[str]:
        """The start time of each process."""
        return sorted(start for run in self.runs for start in run.record.starts)

    def measured(self, case: str) -> CaseOnSide:
        """Return the rows of a case, from all runs that have it."""
        pairs = [(row, run) for run in self.runs for row in rows(run) if row.case.id == case]
        measured, runs = tuple(row for row, _ in pairs), tuple(run for _, run in pairs)
        return CaseOnSide(measured, tuple(_processes(run, row) for row, run in pairs), runs)


@dataclass(frozen=True)
class Pair:
    """A side of the base and the side of the candidate that it is compared with. One of them may be missing."""

    base: Side | None
    candidate: Side | None
    reason: str = ""
    """The reason why the candidate is not compared, if the base has runs of its model, device and precision."""


def is_unfinished(row: CaseResult) -> bool:
    """Return whether a case has no numbers because its run is running or was stopped.

    A case that failed is not unfinished, and neither is a lost case, because the cause is unknown.
    """
    if row.status == KILLED:
        return bool(STOPPED_BY.search(row.reason or ""))
    return row.status in (INTERRUPTED, NOT_RUN, PENDING)


def key(run: Run) -> tuple[str, str, str]:
    """Return the model, the kind of device and the precision, which both sides of a comparison share."""
    plan = run.record.plan
    return plan.model, plan.device.partition(":")[0], plan.precision


def rows(run: Run) -> list[CaseResult]:
    """Return the rows of all planned cases of a run."""
    return archive.complete(run.record, run.results)


def sides(runs: Sequence[Run]) -> list[Side]:
    """Group runs by their known conditions, in the order of their start."""
    groups: list[list[Run]] = []
    known: list[dict[str, str]] = []
    for run in sorted(runs, key=lambda run: run.record.started_at):
        facts = {**conditions.remarked(run), **conditions.settings(run), **conditions.binding(run)}
        same = (index for index, shared in enumerate(known) if not conditions.differences(shared, facts))
        if (index := next(same, None)) is None:
            groups.append([run])
            known.append(facts)
        else:
            groups[index].append(run)
            known[index] |= facts
    return [Side(tuple(group)) for group in groups]


def pairs(base: list[Side], candidate: list[Side], notes: list[str], force: bool = False) -> list[Pair]:
    """Pair the sides of one model, device and precision, in the order of the candidate's start.

    Of sides that differ only in commit or versions, the newest is used. Sides of equal conditions are paired first,
    then sides that agree in everything that varies on either side. Two single sides are always paired. With `force`,
    a side that has no partner is paired with the side of the base that has the fewest different conditions.
    """
    if len(base) == len(candidate) == 1:
        return [Pair(base[0], candidate[0])]
    bases, candidates = (
        _newest(side_list, name, notes) for side_list, name in ((base, "base"), (candidate, "candidate"))
    )
    varied = _varied(bases) | _varied(candidates)
    partners: dict[int, Side] = {}
    for names in (None, varied):
        _match(bases, candidates, partners, names)
    if force:
        _match_nearest(bases, candidates, partners)
    used = [id(side) for side in partners.values()]
    left = [side for side in bases if id(side) not in used]
    paired = []
    for side in reversed(candidates):
        partner = partners.get(id(side))
        # If nothing is paired, each side of the candidate has an unknown relation to the sides of the base.
        reason = _reason_without_partner(side, left) if left and not partners else ""
        paired.append(Pair(partner, side, reason))
    return [*paired, *(Pair(side, None) for side in reversed(left))]


def _match(bases: list[Side], candidates: list[Side], partners: dict[int, Side], names: set[str] | None) -> None:
    """Add the partner of each candidate that agrees with one side of the base in the named conditions, or in all.

    With names, a partner must be unique in both directions.
    """

    def agreeing(side: Side, others: list[Side]) -> list[Side]:
        return [other for other in others if not _differences(other, side, names)]

    used = [id(side) for side in partners.values()]
    bases = [side for side in bases if id(side) not in used]
    for side in [side for side in candidates if id(side) not in partners]:
        matches = [one for one in agreeing(side, bases) if id(one) not in map(id, partners.values())]
        free = [one for one in candidates if id(one) not in partners]
        if matches and (names is None or (len(matches) == 1 and len(agreeing(matches[0], free)) == 1)):
            partners[id(side)] = matches[0]


def _match_nearest(bases: list[Side], candidates: list[Side], partners: dict[int, Side]) -> None:
    """Add the side of the base with the fewest differences as partner of each remaining candidate, if it is unique."""
    for side in [side for side in candidates if id(side) not in partners]:
        free = [one for one in bases if id(one) not in map(id, partners.values())]
        counts = [len(_differences(one, side)) for one in free]
        if counts and counts.count(min(counts)) == 1:
            partners[id(side)] = free[counts.index(min(counts))]


def _differences(base: Side, candidate: Side, names: set[str] | None = None) -> list[conditions.Difference]:
    """Return the named conditions that differ, or all: those that must be equal, and those that the user sets."""
    different = conditions.differences(base.identity, candidate.identity)
    return [one for one in different if names is None or one.condition in names]


def _varied(side_list: list[Side]) -> set[str]:
    """Return the conditions that differ among these sides."""
    return {one.condition for first in side_list for other in side_list for one in _differences(first, other)}


def _reason_without_partner(side: Side, bases: list[Side]) -> str:
    """Return the reason why a side of the candidate is not compared with any of these sides of the base."""
    differences = [_differences(base, side) for base in bases]
    nearest = min(differences, key=len)
    count = f"none of the {len(bases)} runs" if len(bases) > 1 else "not the run"
    if not nearest:
        return f"{len(bases)} runs of the base could be compared with it; select one with --where"
    return f"{count} of the base with this model, device and precision has its conditions ({nearest[0]})"


def _newest(side_list: list[Side], name: str, notes: list[str]) -> list[Side]:
    """Return the newest of sides that differ only in commit or versions, the newest first; add a note about others."""
    newest: list[Side] = []
    for side in reversed(side_list):
        newer = next((one for one in newest if not _differences(one, side)), None)
        if newer is None:
            newest.append(side)
            continue
        names = [one.condition for one in conditions.differences(side.remarked, newer.remarked)]
        notes.append(
            f"{side.runs[0].name}: the {name} has older runs that differ in {', '.join(names)}; "
            f"those of {newer.runs[-1].record.started_at} are compared"
        )
    return newest


def labels(paired: Sequence[Pair]) -> list[str]:
    """Return a name for each pair.

    Pairs with the same model, device and precision have what differs in their names, such as `… · fp32 · threads 5`.
    """
    sides_shown = [side for pair in paired if (side := pair.candidate or pair.base)]
    names: dict[int, str] = {}
    for side in sides_shown:
        namesakes = [other for other in sides_shown if key(other.runs[0]) == key(side.runs[0])]
        names[id(side)] = _label(side, namesakes)
    return [names[id(side)] for side in sides_shown]


def _label(side: Side, namesakes: Sequence[Side]) -> str:
    """Return the name of a side, with what differs between the sides of the same model, device and precision."""
    run = side.runs[0]
    base = SEPARATOR.join(base_parts(run.record.plan).values())
    if len(namesakes) == 1:
        return base
    names = Names.of([other.runs[0] for other in namesakes])
    if not UNRELATED.intersection(names.columns):
        return names.name(run)
    # The configurations are equal, so the recorded conditions distinguish the sides.
    different = {
        name: value
        for name, value in side.identity.items()
        if any(value != other.identity.get(name) for other in namesakes)
    }
    return SEPARATOR.join([base, *(f"{name.removeprefix('model.')} {value}" for name, value in different.items())])


def _processes(run: Run, row: CaseResult) -> Mapping[str, np.ndarray]:
    if run.folder is None or run.record.repeats is None or row.status != OK:
        return {}
    return run.folder.samples(row.case.id).series
