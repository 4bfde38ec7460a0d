"""Measure the prepared runs, one after the other or in turns, and collect their results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench import signals
from visionbench.core import CaseResult, ConfigError, RunPlan
from visionbench.records.output import NotWritten
from visionbench.session.continuation import join_folder
from visionbench.session.tracker_queue import TrackerQueue
from visionbench.session.values import Outcome, PreparedRun, PreparedSweep

if TYPE_CHECKING:
    from visionbench.measuring import StageProgress
    from visionbench.records.folder import RunFolder
    from visionbench.records.record import RunRecord
    from visionbench.resume.matching import Assignment


def measure(
    prepared: PreparedSweep,
    index: int,
    path: Path,
    sweep: str,
    outcome: Outcome,
    is_last: Callable[[CaseResult], bool] = lambda row: False,
) -> None:
    """Measure one run into its folder; with repeats, only create the folder. A ConfigError ends only this run.

    `is_last` receives each row that was written; if it returns True, the other cases are removed from the plan.
    """
    from visionbench.records.folder import RunFolder

    run = prepared.runs[index]
    assignment, earlier = run.assignment, None
    signals.raise_if_received()
    if outcome.not_written:
        outcome.not_measured += 1
        return
    try:
        if assignment is None:
            folder = RunFolder.create(path, run.yaml)
        elif assignment.is_complete:
            _add_earlier_results(assignment, prepared.queue, outcome)
            return
        else:
            folder = join_folder(run, assignment)
            earlier = assignment.joined.record if assignment.joined else None
            sweep = prepared.resumption.sweep.id if prepared.resumption else sweep
    except ConfigError as error:
        _add_error(error, outcome)
        return
    except OSError as error:
        add_write_error(error, outcome)
        outcome.not_measured += 1
        return
    outcome.folders.append(folder.path)
    if prepared.repeated:
        outcome.repeated_runs.append((run, folder, sweep))
        return
    try:
        _measure_once(prepared, run, run.session_plan(), folder, sweep, outcome, earlier, is_last)
    except NotWritten as error:
        _add_unwritten(error, folder, outcome)
        return
    except BaseException:
        add_result(folder, prepared.queue, outcome)
        raise
    add_result(folder, prepared.queue, outcome)


def measure_repeats(prepared: PreparedSweep, outcome: Outcome) -> None:
    """Measure the deferred runs `measure.repeats` times each, in turns, and gather the repeats of each run."""
    from visionbench.results import repeats
    from visionbench.results.archive import Run

    runs = outcome.repeated_runs
    seed = runs[0][0].config.measure.order_seed if runs else 0
    turns = repeats.order([run.config.measure.repeats for run, _, _ in runs], seed)
    try:
        for repeat, index in turns:
            run, folder, sweep = runs[index]
            plan = run.session_plan(repeat)
            if not plan.cases:
                continue
            joined = run.assignment.joined if run.assignment else None
            earlier = joined.processes.get(repeat) if joined else None
            process_folder = folder.repeat(repeat) if run.assignment is None else folder.rejoin_repeat(repeat)
            _measure_once(prepared, run, plan, process_folder, sweep, outcome, earlier[0] if earlier else None)
    except NotWritten as error:
        _add_unwritten(error, process_folder, outcome)
    except OSError as error:
        add_write_error(error, outcome)
    finally:
        for run, folder, _ in runs:
            if repeats.folders(folder):
                try:
                    repeats.write(folder, seed, run.config.measure.repeats)
                    add_result(folder, prepared.queue, outcome)
                except OSError as error:
                    outcome.runs.append(Run.read(folder))  # gathers the repeats
                    add_write_error(error, outcome)
        outcome.repeated_runs = []


def _measure_once(
    prepared: PreparedSweep,
    run: PreparedRun,
    plan: RunPlan,
    folder: RunFolder,
    sweep: str,
    outcome: Outcome,
    earlier: RunRecord | None = None,
    is_last: Callable[[CaseResult], bool] = lambda row: False,
) -> None:
    """Measure in one fresh process. Send earlier runs while the process prepares its inputs, which is not timed."""
    from visionbench import runner

    prepared.progress.next_run()

    def show(stage: StageProgress) -> None:
        prepared.progress.show(stage.stage, stage.case, stage.done)
        if stage.ahead:
            prepared.queue.send()

    try:
        runner.run(run.config, plan, folder, sweep, show, run.left_out, earlier, is_last)
    except ConfigError as error:
        _add_error(error, outcome)


def _add_error(error: ConfigError, outcome: Outcome) -> None:
    outcome.errors.append(str(error))
    outcome.exit_code = 2


def add_write_error(error: OSError, outcome: Outcome) -> None:
    """Add the error that results cannot be written. No further run is measured, because its results would be lost."""
    place = error.filename or "writing results"
    outcome.errors.append(f"{place}: {error.strerror or error}; free space, and measure the other runs again")
    outcome.not_written = True
    outcome.exit_code = outcome.exit_code or 1


def _add_unwritten(error: NotWritten, folder: RunFolder, outcome: Outcome) -> None:
    """Add a run whose files are incomplete. The table shows it from memory, and no tracker receives it."""
    from visionbench.results.archive import Run

    outcome.runs.append(Run(error.record, error.results, folder))
    outcome.errors.append(str(error))
    outcome.not_written = True
    outcome.exit_code = outcome.exit_code or 1


def add_result(folder: RunFolder, queue: TrackerQueue, outcome: Outcome) -> None:
    """Add a measured run to the outcome and to the tracker's queue."""
    from visionbench.records.record import UNSUCCESSFUL
    from visionbench.results.archive import Run

    record = folder.record()
    outcome.runs.append(Run(record, folder.results(), folder))
    if record.status == UNSUCCESSFUL and not outcome.exit_code:
        outcome.exit_code = 1
    queue.unsent.append(folder.path)


def _add_earlier_results(assignment: Assignment, queue: TrackerQueue, outcome: Outcome) -> None:
    """Add the results of earlier runs that are kept, so that the table and the tracker have them."""
    from visionbench.records.folder import RunFolder
    from visionbench.resume import folders

    earlier = [assignment.joined] if assignment.joined else [change.earlier for change in assignment.changes]
    for run in earlier:
        folders.complete(run.path)
        outcome.folders.append(run.path)
        add_result(RunFolder.open(run.path), queue, outcome)
