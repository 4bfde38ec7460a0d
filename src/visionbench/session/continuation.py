"""The runs of a command that continues a sweep: which cases are measured, and into which folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.config import Place
from visionbench.session.values import PreparedRun, PreparedSweep, Resumption

if TYPE_CHECKING:
    from visionbench.records.folder import RunFolder
    from visionbench.resume.matching import Assignment


def assign(
    runs: Sequence[PreparedRun], resumption: Resumption, earlier: PreparedSweep | None = None
) -> tuple[PreparedRun, ...]:
    """Return the runs with their folders and their missing cases in the sweep that is continued. Raises ConfigError."""
    from visionbench.resume import matching
    from visionbench.resume.conditions import PresentConditions

    present = PresentConditions()
    repeated = any(run.config.measure.repeats > 1 for run in runs)
    sweep = resumption.sweep
    planned = [
        matching.Planned(
            run.plan,
            present.identify(run.config, run.yaml, run.plan),
            run.config.measure.repeats,
            repeated,
            run.request.place.folder if run.request and run.request.place else sweep.folder,
            asdict(run.config.batch),
        )
        for run in runs
    ]
    used = [run.assignment.folder for run in (earlier.previous if earlier else ()) if run.assignment]
    assignments = matching.assign(sweep, planned, resumption.choices, used)
    return tuple(
        replace(
            run.with_assignment(assignment),
            request=replace(run.request, place=Place(assignment.folder, sweep.folder, sweep.id))
            if run.request
            else None,
        )
        for run, assignment in zip(runs, assignments, strict=True)
    )


def describe_assignments(runs: Sequence[PreparedRun], resumption: Resumption) -> list[str]:
    """Return lines about what a resumed command measures and keeps, and about changed conditions."""
    from visionbench.resume import matching

    assignments = [run.assignment for run in runs if run.assignment]
    needed = sum(len(assignment.needed) for assignment in assignments)
    kept = sum(len(assignment.kept) for assignment in assignments)
    cases = f"{needed} case{'s' * (needed != 1)} to measure" if needed else "nothing to measure"
    lines = [f"resume={resumption.sweep.id}: {cases}, {kept} result{'s' * (kept != 1)} kept"]
    for change in dict.fromkeys(change for assignment in assignments for change in assignment.changes):
        treatment = {
            "measure": "its cases are measured again, as a separate run",
            "keep": "its results are kept, and missing cases are measured as a separate run",
        }[resumption.choices.on_change]
        lines.append(f"! {change}; {treatment}")
    others = [run.name for run in matching.unplanned(resumption.sweep, assignments)]
    if others:
        lines.append(f"not part of this command, and unchanged: {', '.join(others)}")
    return lines


def folder_of(prepared: PreparedSweep, index: int) -> Path | None:
    """Return the folder of a run if the command continues a sweep and measures the run, else None."""
    assignment = prepared.runs[index].assignment
    return assignment.folder if assignment is not None and not assignment.is_complete else None


def is_complete(prepared: PreparedSweep, index: int) -> bool:
    """Return whether all results of a run are kept, so that nothing is measured."""
    assignment = prepared.runs[index].assignment
    return assignment is not None and assignment.is_complete


def join_folder(run: PreparedRun, assignment: Assignment) -> RunFolder:
    """Prepare the folder of a run of the sweep that is continued."""
    from visionbench.records.folder import RunFolder
    from visionbench.resume import folders

    for earlier, cases in assignment.moved:
        folders.remove_from_plan(earlier.path, cases)
    if assignment.emptied:
        folders.empty(assignment.folder)
    if assignment.joined and assignment.joined.repeated:
        folders.remove_gathered(assignment.folder)
    return RunFolder.rejoin(assignment.folder, run.yaml)
