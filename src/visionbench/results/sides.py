"""The two sides of a comparison: runs of equal conditions, their cases, and which side is compared with which."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from visionbench.core import INTERRUPTED, KILLED, NOT_RUN, OK, PENDING, VALID, CaseResult, Reason
from visionbench.results import archive, conditions, summary
from visionbench.results.agreement import Agreement, Distances
from visionbench.results.archive import Run
from visionbench.results.naming import Names
from visionbench.variation import base_parts, joined

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

    @cached_property
    def binding(self) -> Mapping[str, str]:
        """The conditions that the other side must share."""
        return {name: value for run in reversed(self.runs) for name, value in conditions.binding(run).items()}

    @cached_property
    def remarked(self) -> Mapping[str, str]:
        """The conditions that are reported if the other side differs."""
        return {name: value for run in reversed(self.runs) for name, value in conditions.remarked(run).items()}

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """The conditions that the other side must share, and the reported conditions that the user sets."""
        configured = {name: value for run in reversed(self.runs) for name, value in conditions.settings(run).items()}
        return {**configured, **self.binding}

    @cached_property
    def cases(self) -> dict[str, CaseResult]:
        """One row of each case, by the id of the case."""
        return {row.case.id: row for run in self.runs for row in rows(run)}

    @property
    def starts(self) -> list[str]:
        """The start time of each process."""
        return sorted(start for run in self.runs for start in run.record.starts)

    @cached_property
    def _rows_by_case(self) -> dict[str, list[tuple[CaseResult, Run]]]:
        groups: dict[str, list[tuple[CaseResult, Run]]] = {}
        for run in self.runs:
            for row in rows(run):
                groups.setdefault(row.case.id, []).append((row, run))
        return groups

    def measured(self, case: str) -> CaseOnSide:
        """Return the rows of a case, from all runs that have it."""
        pairs = self._rows_by_case.get(case, [])
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
    index = Agreement()
    for run in sorted(runs, key=lambda run: run.record.started_at):
        facts = {**conditions.remarked(run), **conditions.settings(run), **conditions.binding(run)}
        numbers = index.agreeing(facts)
        if not numbers:
            index.add(len(groups), facts)
            groups.append([run])
            known.append(facts)
            continue
        number = numbers[0]
        groups[number].append(run)
        if facts.keys() - known[number].keys():
            index.remove(number, known[number])
            known[number] = known[number] | facts
            index.add(number, known[number])
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
    used = {id(side) for side in partners.values()}
    left = [side for side in bases if id(side) not in used]
    distances = Distances([side.identity for side in left] if not partners else [])
    paired = []
    for side in reversed(candidates):
        partner = partners.get(id(side))
        # If nothing is paired, each side of the candidate has an unknown relation to the sides of the base.
        reason = _reason_without_partner(side, left, distances) if left and not partners else ""
        paired.append(Pair(partner, side, reason))
    return [*paired, *(Pair(side, None) for side in reversed(left))]


def _match(bases: list[Side], candidates: list[Side], partners: dict[int, Side], names: set[str] | None) -> None:
    """Add the partner of each candidate that agrees with one side of the base in the named conditions, or in all.

    With names, a partner must be unique in both directions.
    """
    used = {id(side) for side in partners.values()}
    bases = [side for side in bases if id(side) not in used]
    free = [side for side in candidates if id(side) not in partners]
    base_index, candidate_index = _index(bases, names), _index(free, names)
    for number, side in enumerate(free):
        matches = base_index.agreeing(_named(side, names))
        if not matches:
            continue
        partner, facts = bases[matches[0]], _named(bases[matches[0]], names)
        if names is None or (len(matches) == 1 and len(candidate_index.agreeing(facts)) == 1):
            partners[id(side)] = partner
            base_index.remove(matches[0], facts)
            candidate_index.remove(number, _named(side, names))


def _index(side_list: list[Side], names: set[str] | None) -> Agreement:
    """Return an index of the named conditions of these sides, or of all conditions."""
    index = Agreement()
    for number, side in enumerate(side_list):
        index.add(number, _named(side, names))
    return index


def _named(side: Side, names: set[str] | None) -> Mapping[str, str]:
    """Return the named conditions of a side, or all."""
    return side.identity if names is None else {name: side.identity[name] for name in names & side.identity.keys()}


def _match_nearest(bases: list[Side], candidates: list[Side], partners: dict[int, Side]) -> None:
    """Add the side of the base with the fewest differences as partner of each remaining candidate, if it is unique."""
    used = {id(side) for side in partners.values()}
    free = [side for side in bases if id(side) not in used]
    distances, is_free = Distances([side.identity for side in free]), np.ones(len(free), bool)
    for side in [side for side in candidates if id(side) not in partners]:
        counts = np.where(is_free, distances.counts(side.identity), np.inf)
        if is_free.any() and (counts == counts.min()).sum() == 1:
            number = int(counts.argmin())
            partners[id(side)], is_free[number] = free[number], False


def _differences(base: Side, candidate: Side) -> list[conditions.Difference]:
    """Return the conditions that differ: those that must be equal, and those that the user sets."""
    return conditions.differences(base.identity, candidate.identity)


def _varied(side_list: list[Side]) -> set[str]:
    """Return the conditions that differ among these sides."""
    values: dict[str, set[str]] = {}
    for side in side_list:
        for name, value in side.identity.items():
            values.setdefault(name, set()).add(value)
    return {name for name, different in values.items() if len(different) > 1}


def _reason_without_partner(side: Side, bases: list[Side], distances: Distances) -> str:
    """Return the reason why a side of the candidate is not compared with any of these sides of the base."""
    nearest = _differences(bases[int(distances.counts(side.identity).argmin())], side)
    count = f"none of the {len(bases)} runs" if len(bases) > 1 else "not the run"
    if not nearest:
        return f"{len(bases)} runs of the base could be compared with it; select one with --where"
    return f"{count} of the base with this model, device and precision has its conditions ({nearest[0]})"


def _newest(side_list: list[Side], name: str, notes: list[str]) -> list[Side]:
    """Return the newest of sides that differ only in commit or versions, the newest first; add a note about others."""
    newest: list[Side] = []
    index = Agreement()
    for side in reversed(side_list):
        numbers = index.agreeing(side.identity)
        if not numbers:
            index.add(len(newest), side.identity)
            newest.append(side)
            continue
        newer = newest[numbers[0]]
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
    groups: dict[tuple[str, str, str], list[Side]] = {}
    for side in sides_shown:
        groups.setdefault(key(side.runs[0]), []).append(side)
    names = {id(side): label for group in groups.values() for side, label in zip(group, _labels(group), strict=True)}
    return [names[id(side)] for side in sides_shown]


def _labels(namesakes: Sequence[Side]) -> Iterator[str]:
    """Yield the names of sides of the same model, device and precision, with what differs between them."""
    bases = [joined(base_parts(side.runs[0].record.plan).values()) for side in namesakes]
    if len(namesakes) == 1:
        yield from bases
        return
    names = Names.of([side.runs[0] for side in namesakes])
    if not UNRELATED.intersection(names.columns):
        yield from (names.name(side.runs[0]) for side in namesakes)
        return
    # The configurations are equal, so the recorded conditions distinguish the sides.
    values: dict[str, set[str | None]] = {}
    for name in dict.fromkeys(name for side in namesakes for name in side.identity):
        values[name] = {side.identity.get(name) for side in namesakes}
    for side, base in zip(namesakes, bases, strict=True):
        different = {name: value for name, value in side.identity.items() if len(values[name]) > 1}
        yield joined([base, *(f"{name.removeprefix('model.')} {value}" for name, value in different.items())])


def _processes(run: Run, row: CaseResult) -> Mapping[str, np.ndarray]:
    if run.folder is None or run.record.repeats is None or row.status != OK:
        return {}
    return run.samples(row.case.id).series
