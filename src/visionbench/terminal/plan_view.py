"""The plan of a command as a table: runs, the cases that are measured, the expected time, and what is skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from visionbench.terminal.progress import clock_time

ESTIMATED = "*"
"""The mark of a time that no earlier result confirms."""


@dataclass(frozen=True)
class PlannedCase:
    """A case that is measured in one process of its run."""

    id: str
    process: int
    seconds: float
    from_results: bool
    """Whether the time is that of the same case in an earlier result."""
    reason: str = ""
    """Why the case is measured, if a sweep is continued."""


@dataclass(frozen=True)
class ShownRun:
    """A run of a plan."""

    name: str
    cases: tuple[PlannedCase, ...]
    skipped: Mapping[str, str]
    """Cases and metrics that are not measured, each with the reason."""
    start_seconds: float
    start_from_results: bool
    processes: int = 1

    @property
    def seconds(self) -> float:
        """The expected time of the run."""
        return self.start_seconds + sum(case.seconds for case in self.cases)

    @property
    def is_confirmed(self) -> bool:
        """Whether all times are those of earlier results."""
        return self.start_from_results and all(case.from_results for case in self.cases)


def show(runs: Sequence[ShownRun], notes: Sequence[str], console: Console) -> None:
    """Print the plan."""
    for line in plan_lines(runs, notes):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def plan_lines(runs: Sequence[ShownRun], notes: Sequence[str]) -> list[str]:
    """Return the lines of the plan."""
    lines = [*notes]
    rows = [("run", "time", "measured")]
    rows += [(run.name, _time(run.seconds, run.is_confirmed) if run.cases else "–", _measured(run)) for run in runs]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines += [f"{name:<{widths[0]}}  {time:>{widths[1]}}  {measured}".rstrip() for name, time, measured in rows]
    skipped: dict[str, list[str]] = {}
    for run in runs:
        for name, reason in run.skipped.items():
            skipped.setdefault(f"{name}: {reason}", []).append(run.name)
    if skipped:
        lines += ["", "skipped"]
        lines += [f"  {text} ({_all_or_listed(names, len(runs))})" for text, names in skipped.items()]
    measured = sum(len(run.cases) for run in runs)
    confirmed = all(run.is_confirmed for run in runs)
    total = _time(sum(run.seconds for run in runs), confirmed)
    count = sum(1 for run in runs if run.cases)
    lines += ["", f"{count} run{'s' * (count != 1)}, {measured} case{'s' * (measured != 1)}, about {total}"]
    if not confirmed:
        lines.append(f"{ESTIMATED} the least time of the protocol, because there is no earlier result of the same case")
    lines.append("dry run: nothing was measured, and nothing was written")
    return lines


def _measured(run: ShownRun) -> str:
    """Return the cases of a run, with the reasons and the processes if there are several."""
    if not run.cases:
        return "nothing"
    processes: dict[str, list[PlannedCase]] = {}
    for case in run.cases:
        processes.setdefault(case.id, []).append(case)
    return ", ".join(_case(name, cases, run.processes) for name, cases in processes.items())


def _case(name: str, cases: Sequence[PlannedCase], processes: int) -> str:
    reasons = list(dict.fromkeys(case.reason for case in cases if case.reason))
    if processes > 1:
        numbers = [case.process for case in cases]
        reasons.append(
            f"{len(cases)} processes" if len(cases) == processes else f"process {', '.join(map(str, numbers))}"
        )
    return f"{name} ({'; '.join(reasons)})" if reasons else name


def _all_or_listed(names: Sequence[str], runs: int) -> str:
    return f"all {runs} runs" if len(names) == runs > 1 else ", ".join(names)


def _time(seconds: float, confirmed: bool) -> str:
    """Return a time, marked if it is only an estimate by the protocol."""
    return clock_time(seconds) + ("" if confirmed else ESTIMATED)
