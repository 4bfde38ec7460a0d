"""Which planned run continues which earlier run, and which cases are measured.

Runs are matched by the digest of their settings, never by the names of folders. Results that were measured under
other conditions never become part of the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visionbench.core import AUTO, OK, BatchSearch, Case, ConfigError, RunPlan
from visionbench.records.identity import Difference, Identity
from visionbench.results import repeats
from visionbench.resume.choices import KEEP, MEASURE, REFUSE, Choices, describe
from visionbench.resume.earlier import EarlierRun, EarlierSweep, free_folder

SHOWN = 6
"""The number of differences that an error message shows."""
Needed = dict[tuple[int, str], str]
"""The number of the process and the id of a case, with the reason why the case is measured."""


@dataclass(frozen=True)
class Planned:
    """A run that the present command plans."""

    plan: RunPlan
    identity: Identity
    processes: int
    """The number of processes that measure the run."""
    repeated: bool
    """Whether processes have folders of their own, because a run of the command has several processes."""
    folder: Path
    """The folder that a command without `resume` would use."""
    batch: Mapping[str, Any] = field(default_factory=dict)
    """The section `batch` of the configuration."""


@dataclass(frozen=True)
class Change:
    """An earlier run whose results were measured under other conditions, with what differs."""

    earlier: EarlierRun
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        return f"{self.earlier.name}: {', '.join(map(str, self.differences))}"


@dataclass(frozen=True)
class Assignment:
    """The folder of a planned run, and its cases that are measured and kept."""

    folder: Path
    needed: Needed
    kept: Mapping[str, str] = field(default_factory=dict)
    """The ids of the cases that are not measured, each with its result."""
    joined: EarlierRun | None = None
    """The earlier run that is continued."""
    emptied: bool = False
    """Whether the folder belongs to an earlier run without numbers, whose files are replaced."""
    changes: tuple[Change, ...] = ()
    batch_search: BatchSearch | None = None
    """The search of the joined run whose batch size is measured again, with batch=auto."""
    moved: tuple[tuple[EarlierRun, frozenset[str]], ...] = ()
    """Cases that leave the plans of earlier runs, because this run measures them under other conditions."""

    def cases(self, plan: RunPlan, number: int) -> tuple[Case, ...]:
        """Return the cases of a plan that one process measures."""
        return tuple(case for case in plan.cases if (number, case.id) in self.needed)

    def with_batch_size(self, plan: RunPlan) -> RunPlan:
        """Return a plan with the batch size that an earlier session of the run found, if there is one."""
        return plan if self.batch_search is None else plan.with_batch_size(self.batch_search)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to measure."""
        return not self.needed


def assign(
    sweep: EarlierSweep, runs: Sequence[Planned], choices: Choices, used: Sequence[Path] = ()
) -> list[Assignment]:
    """Return the assignment of each planned run. Raises ConfigError if conditions changed and `on_change=refuse`.

    `used` are the folders of runs that an earlier batch of the command continues.
    """
    keys = [run.identity.key for run in runs]
    occupied = set(used)
    free = {earlier.path: earlier for earlier in sweep.runs if earlier.path not in occupied}
    paths_by_key: dict[str, list[Path]] = {}
    for earlier in free.values():
        paths_by_key.setdefault(earlier.key, []).append(earlier.path)
    planned_keys = set(keys)
    unmatched = [earlier for earlier in free.values() if earlier.key not in planned_keys]
    assignments = []
    for run, key in zip(runs, keys, strict=True):
        same = [free[path] for path in paths_by_key.get(key, ()) if path in free]
        exact = next((earlier for earlier in same if not _differences(earlier, run)), None)
        if exact is not None:
            del free[exact.path]
        changed = [earlier for earlier in same if _differences(earlier, run)]
        if not same:
            changed = _similar([earlier for earlier in unmatched if earlier.path in free], run)
        assignment = _assign(sweep, run, exact, changed, choices, occupied)
        if assignment.emptied:
            free.pop(assignment.folder, None)
        occupied.add(assignment.folder)
        assignments.append(assignment)
    if choices.on_change == REFUSE:
        _refuse_changes(sweep, [assignment for assignment in assignments if assignment.changes], choices.with_overrides)
    return assignments


def unplanned(sweep: EarlierSweep, assignments: Sequence[Assignment]) -> list[EarlierRun]:
    """Return the earlier runs that the present command neither continues nor replaces."""
    used = {assignment.folder for assignment in assignments}
    used |= {change.earlier.path for assignment in assignments for change in assignment.changes}
    return [run for run in sweep.runs if run.path not in used]


def _assign(
    sweep: EarlierSweep,
    run: Planned,
    exact: EarlierRun | None,
    changed: Sequence[EarlierRun],
    choices: Choices,
    occupied: Set[Path],
) -> Assignment:
    sources = [exact] if exact is not None else changed
    search = next((search for earlier in sources if (search := _batch_search(earlier, run)) is not None), None)
    if search is not None:
        run = replace(run, plan=run.plan.with_batch_size(search))
    needed, kept = _needed(run, exact, choices)
    covering = {earlier: cases for earlier in changed if (cases := _covered(needed, earlier, run, choices))}
    moved = []
    for cases in covering.values():
        if choices.on_change == MEASURE:
            needed = {key: "other conditions" if key[1] in cases else reason for key, reason in needed.items()}
        if choices.on_change == KEEP:
            kept |= {case: f"{text}, measured under other conditions" for case, text in cases.items()}
            needed = {key: reason for key, reason in needed.items() if key[1] not in cases}
    for earlier in covering:
        ids = {case for _, case in needed if earlier.row(1, case) is None}
        moved.append((earlier, frozenset(ids)))
    if search is not None and exact is None and choices.on_change == MEASURE:  # other conditions may need more memory
        needed = {(number, AUTO if case == search.case else case): reason for (number, case), reason in needed.items()}
        search = None
    changes = tuple(Change(earlier, tuple(_differences(earlier, run))) for earlier in covering)
    if exact is not None:
        return Assignment(exact.path, needed, kept, exact, changes=changes, batch_search=search, moved=tuple(moved))
    empty = next((other for other in changed if not _has_numbers(other) and other.path not in occupied), None)
    if empty is not None:
        return Assignment(
            empty.path, needed, kept, emptied=True, changes=changes, batch_search=search, moved=tuple(moved)
        )
    used = occupied | sweep.paths
    folder = free_folder(sweep.folder, run.folder, used)
    return Assignment(folder, needed, kept, changes=changes, batch_search=search, moved=tuple(moved))


def _batch_search(earlier: EarlierRun, run: Planned) -> BatchSearch | None:
    """Return the search of an earlier run by the same keys of `batch`, if a process has measured the size it found."""
    if all(case.id != AUTO for case in run.plan.cases) or earlier.record.config.get("batch") != run.batch:
        return None
    for number, (record, _) in earlier.processes.items():
        search = record.plan.batch_search
        if search is not None and (row := earlier.row(number, search.case)) is not None and row.status == OK:
            return search
    return None


def _needed(run: Planned, earlier: EarlierRun | None, choices: Choices) -> tuple[Needed, dict[str, str]]:
    """Return the cases that have no result to keep, and the cases with one, with its description."""
    needed: Needed = {}
    kept: dict[str, str] = {}
    for number, case in _steps(run):
        row = earlier.row(number, case.id) if earlier else None
        if reason := choices.reason_to_measure(row):
            needed[number, case.id] = reason
        elif earlier and row and earlier.identity.content(row.case) != run.identity.content(case):
            needed[number, case.id] = "other metrics"
        elif row:
            kept[case.id] = describe(row)
    return needed, {case: text for case, text in kept.items() if not any(case == other for _, other in needed)}


def _covered(needed: Needed, earlier: EarlierRun, run: Planned, choices: Choices) -> dict[str, str]:
    """Return the needed cases for which a run of other conditions has results, with their descriptions."""
    cases = {case.id: case for case in run.plan.cases}
    rows = {case: earlier.row(1, case) for _, case in needed}
    return {
        case: describe(row)
        for case, row in rows.items()
        if row is not None and row.status == OK and choices.reason_to_measure(row) is None and case in cases
    }


def _steps(run: Planned) -> Iterator[tuple[int, Case]]:
    """Yield each process of a run with each of its cases."""
    for number in range(1, run.processes + 1):
        for case in repeats.planned(run.plan, number).cases:
            yield number, case


def _differences(earlier: EarlierRun, run: Planned) -> list[Difference]:
    differences = earlier.identity.changes(run.identity)
    if earlier.repeated != run.repeated:
        before = (earlier.record.config.get("measure") or {}).get("repeats", 1)
        differences.append(Difference("measure.repeats", str(before), str(run.processes)))
    return differences


def _similar(earlier: Sequence[EarlierRun], run: Planned) -> list[EarlierRun]:
    """Return the earlier run of the same model, device and precision whose settings differ least, if there is one."""
    plan = run.plan
    same = [
        other
        for other in earlier
        if (other.record.plan.model, other.record.plan.device, other.record.plan.precision)
        == (plan.model, plan.device, plan.precision)
    ]
    return [min(same, key=lambda other: len(_differences(other, run)))] if same else []


def _has_numbers(earlier: EarlierRun) -> bool:
    return any(row.status == OK for _, rows in earlier.processes.values() for row in rows.values())


def _refuse_changes(sweep: EarlierSweep, changed: Sequence[Assignment], with_overrides: bool) -> None:
    """Raise ConfigError that names what differs and both ways to continue."""
    if not changed:
        return
    changes = [change for assignment in changed for change in assignment.changes]
    differences = dict.fromkeys(difference for change in changes for difference in change.differences)
    cases = sum(len({case for _, case in assignment.needed}) for assignment in changed)
    counted = f"{cases} case{'s' * (cases > 1)} of {len(changed)} run{'s' * (len(changed) > 1)}"
    shown = ", ".join(map(str, list(differences)[:SHOWN]))
    more = f" and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
    hint = ""
    if with_overrides and any(difference.is_setting for difference in differences):
        hint = f"give resume={sweep.id} without overrides to repeat the command of the sweep; "
    raise ConfigError(
        f"resume={sweep.id}: conditions changed since {changes[0].earlier.name} was measured: {shown}{more}",
        f"{hint}on_change=measure measures {counted} again as separate runs; on_change=keep measures only the cases "
        "that have no result, also as separate runs",
    )
