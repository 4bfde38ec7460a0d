"""What is missing from results: runs that never started, lost runs and cases, and cases that are not measured yet."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from visionbench.core import INTERRUPTED, LOST, NOT_RUN, PENDING, ConfigError
from visionbench.records import sweep
from visionbench.records.record import LOST as LOST_RUN
from visionbench.records.record import PENDING as PENDING_RUN
from visionbench.records.record import RUNNING
from visionbench.records.sweep import SweepRecord
from visionbench.results.archive import NEVER_STARTED, NO_FOLDER, Run

MOST_NAMES = 3
"""The most runs that a sentence names."""
NEVER, ABSENT, ENDED, CASES, UNFINISHED, ELSEWHERE = "never", "absent", "ended", "cases", "unfinished", "elsewhere"
"""The kinds of gaps: runs that never started, runs without results, runs whose process ended too early, lost cases of a
run, runs that have not ended, and such runs on other hosts."""


@dataclass(frozen=True)
class Gap:
    """A kind of missing results."""

    kind: str
    names: tuple[str, ...]
    """The names of the runs, or the hosts of the kind `elsewhere`."""
    total: int = 0
    """The number of all runs; for the kind `cases` that of all cases of the run."""
    cases: int = 0
    """The number of cases without a result."""

    def sentence(self) -> str:
        """Return the gap as a sentence without a full stop."""
        names, share, several = _listed(self.names), _share(len(self.names), self.total), len(self.names) > 1
        if self.kind == NEVER:
            return f"{share} never started: {names}"
        if self.kind == ABSENT:
            verb = "have" if several else "has"
            return f"{share} {verb} no results (never started, or the folder was removed): {names}"
        if self.kind == ENDED:
            cause = "are lost, because their processes" if several else "is lost, because its process"
            return f"{share} {cause} ended too early: {names}"
        if self.kind == CASES:
            verb = "is" if self.cases == 1 else "are"
            return f"{self.cases} of {self.total} cases of {names} {verb} lost"
        if self.kind == UNFINISHED:
            cases = "1 case is" if self.cases == 1 else f"{self.cases} cases are"
            return f"{share} {'have' if several else 'has'} not ended, {cases} not measured yet"
        hosts = " and ".join(self.names)
        return f"runs on {hosts} count as running, because this machine cannot check the processes of another machine"


def lost(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that have a lost case, or whose process ended before the end of the run."""
    return [run for run in runs if run.record.status == LOST_RUN or any(row.status == LOST for row in run.results)]


def pending(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that have not ended."""
    return [run for run in runs if run.record.status in (RUNNING, PENDING_RUN)]


def sentences(runs: Sequence[Run]) -> Iterator[str]:
    """Yield a sentence for each kind of missing results, with the number and the names of the runs."""
    yield from (gap.sentence() for gap in gaps(runs))


def gaps(runs: Sequence[Run]) -> Iterator[Gap]:
    """Yield each kind of missing results, with the names of the runs."""
    never, absent = _unstarted(runs, NEVER_STARTED), _unstarted(runs, NO_FOLDER)
    ended = [run for run in lost(runs) if run.record.status == LOST_RUN and run not in (*never, *absent)]
    for kind, members in ((NEVER, never), (ABSENT, absent), (ENDED, ended)):
        if members:
            yield Gap(kind, _names(members), len(runs))
    for run in lost(runs):
        if run.record.status != LOST_RUN:
            yield Gap(CASES, (run.name,), len(run.results), sum(row.status == LOST for row in run.results))
    if unfinished := pending(runs):
        cases = sum(row.status == PENDING for run in unfinished for row in run.results)
        yield Gap(UNFINISHED, _names(unfinished), len(runs), cases)
    elsewhere = {run.record.host.name for run in unfinished if run.record.host.name not in (None, platform.node())}
    if elsewhere:
        yield Gap(ELSEWHERE, tuple(sorted(map(str, elsewhere))))


def resume_commands(runs: Sequence[Run]) -> list[str]:
    """Return for each sweep with missing cases the command that measures them."""
    return list(dict.fromkeys(resume_command(run) for run in runs if _is_missing(run)))


def resume_command(run: Run) -> str:
    """Return the command that continues the sweep of a run. A search of `visionbench tune` repeats its own command."""
    path = Path("outputs", run.sweep) if run.folder is None else run.folder.path
    folder = next((parent for parent in (path, *path.parents) if parent.name == run.sweep), path.parent)
    with suppress(ConfigError):
        record = SweepRecord.read(folder)
        if record is not None and record.command[1:2] == ("tune",):
            return shlex.join(record.command)
    return sweep.resume_command(folder, run.sweep)


def _is_missing(run: Run) -> bool:
    return run.record.status == LOST_RUN or any(row.status in (LOST, INTERRUPTED, NOT_RUN) for row in run.results)


def _unstarted(runs: Sequence[Run], reason: str) -> list[Run]:
    """Return the runs whose cases are all lost for this reason."""
    return [run for run in lost(runs) if run.results and all(row.reason == reason for row in run.results)]


def described(some: Sequence[Run], runs: Sequence[Run]) -> str:
    """Return the number and the names of some of these runs, such as `2 of 5 runs: a, b`."""
    return f"{_share(len(some), len(runs))}: {_listed(_names(some))}"


def _names(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(run.name for run in runs)


def _share(count: int, total: int) -> str:
    return "the run" if total == 1 else f"{count} of {total} runs"


def _listed(names: Sequence[str]) -> str:
    """Return the distinct names, up to MOST_NAMES, and the number of the others."""
    shown, more = first_names(names)
    return ", ".join([*shown, *([f"{more} more"] if more else [])])


def first_names(names: Sequence[str]) -> tuple[list[str], int]:
    """Return the first MOST_NAMES distinct names, and the number of the others."""
    distinct = list(dict.fromkeys(names))
    return distinct[:MOST_NAMES], max(0, len(distinct) - MOST_NAMES)
