"""What is missing from results: runs that never started, lost runs and cases, and cases that are not measured yet."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from visionbench.core import INTERRUPTED, LOST, NOT_RUN, PENDING
from visionbench.records.record import LOST as LOST_RUN
from visionbench.records.record import PENDING as PENDING_RUN
from visionbench.records.record import RUNNING
from visionbench.results.archive import NEVER_STARTED, NO_FOLDER, Run

MOST_NAMES = 3
"""The most runs that a sentence names."""


def lost(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that have a lost case, or whose process ended before the end of the run."""
    return [run for run in runs if run.record.status == LOST_RUN or any(row.status == LOST for row in run.results)]


def pending(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that have not ended."""
    return [run for run in runs if run.record.status in (RUNNING, PENDING_RUN)]


def sentences(runs: Sequence[Run]) -> Iterator[str]:
    """Yield a sentence for each kind of missing results, with the number and the names of the runs."""
    never, absent = _unstarted(runs, NEVER_STARTED), _unstarted(runs, NO_FOLDER)
    if never:
        yield f"{_share(never, runs)} never started: {_names(never)}"
    if absent:
        reason = "never started, or the folder was removed"
        yield f"{_share(absent, runs)} {_has(absent)} no results ({reason}): {_names(absent)}"
    unended = [run for run in lost(runs) if run.record.status == LOST_RUN and run not in (*never, *absent)]
    if unended:
        yield f"{_share(unended, runs)} {_is(unended)} lost, because its process ended too early: {_names(unended)}"
    for run in lost(runs):
        if run.record.status != LOST_RUN:
            count = sum(row.status == LOST for row in run.results)
            yield f"{count} of {len(run.results)} cases of {run.name} {'is' if count == 1 else 'are'} lost"
    if unfinished := pending(runs):
        cases = sum(row.status == PENDING for run in unfinished for row in run.results)
        counted = f"{cases} case{'s are' if cases != 1 else ' is'} not measured yet"
        yield f"{_share(unfinished, runs)} {_has(unfinished)} not ended, {counted}"
    elsewhere = {run.record.host.name for run in unfinished if run.record.host.name not in (None, platform.node())}
    if elsewhere:
        yield (
            f"runs on {' and '.join(sorted(map(str, elsewhere)))} count as running, because the processes of another "
            "machine cannot be found out"
        )


def resume_commands(runs: Sequence[Run]) -> list[str]:
    """Return for each sweep with missing cases the command that measures them."""
    return [_resume_command(sweep, runs) for sweep in dict.fromkeys(run.sweep for run in runs if _is_missing(run))]


def _resume_command(sweep: str, runs: Sequence[Run]) -> str:
    paths = [run.folder.path for run in runs if run.folder is not None and run.sweep == sweep]
    folders = [path if path.name == sweep else path.parent for path in paths]
    name = sweep
    if folders and os.path.abspath(folders[0]) != os.path.abspath(Path("outputs", sweep)):
        name = str(folders[0])
    return shlex.join(["visionbench", "run", f"resume={name}"])


def _is_missing(run: Run) -> bool:
    return run.record.status == LOST_RUN or any(row.status in (LOST, INTERRUPTED, NOT_RUN) for row in run.results)


def _unstarted(runs: Sequence[Run], reason: str) -> list[Run]:
    """Return the runs whose cases are all lost for this reason."""
    return [run for run in lost(runs) if run.results and all(row.reason == reason for row in run.results)]


def described(some: Sequence[Run], runs: Sequence[Run]) -> str:
    """Return the number and the names of some of these runs, such as `2 of 5 runs: a, b`."""
    return f"{_share(some, runs)}: {_names(some)}"


def _share(some: Sequence[Run], runs: Sequence[Run]) -> str:
    return "the run" if len(runs) == 1 else f"{len(some)} of {len(runs)} runs"


def _names(runs: Sequence[Run]) -> str:
    names = list(dict.fromkeys(run.name for run in runs))
    more = [f"{len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return ", ".join([*names[:MOST_NAMES], *more])


def _is(runs: Sequence[Run]) -> str:
    return "is" if len(runs) == 1 else "are"


def _has(runs: Sequence[Run]) -> str:
    return "has" if len(runs) == 1 else "have"
