"""Finish a sweep: show the results, send them to the tracker, and write the report."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from visionbench.config import ExperimentConfig
from visionbench.core import first_line, visible
from visionbench.session import sweep_file
from visionbench.session.values import Outcome, PreparedSweep


def finish_job(prepared: PreparedSweep, outcome: Outcome) -> None:
    """Send the results of a job to the tracking server, and print errors. The starting process shows the results."""
    prepared.progress.close()
    prepared.queue.complete()
    for line in dict.fromkeys([*prepared.queue.errors, *outcome.errors]):
        print(f"visionbench: {line}", file=sys.stderr)


def finish(prepared: PreparedSweep, outcome: Outcome, verbose: bool = False) -> None:
    """Show the results, send the unsent runs, and write the report. Also called after an error or an interrupt.

    With `verbose`, several runs have a table each, with all doubts.
    """
    from visionbench.terminal import table

    console, queue = prepared.console, prepared.queue
    prepared.progress.close()
    if outcome.runs:
        table.show(outcome.runs, console, verbose)
        console.print()
    report = publish(prepared, outcome)
    if outcome.folders:
        shared = prepared.resumption.sweep.folder if prepared.resumption else _shared_folder(outcome)
        lines = {"results": _relative(shared)}
        if report is not None:
            lines["report"] = _relative(report)
        if sum(len(run.timed) for run in outcome.runs) > 1:
            lines["advice"] = _advice_command(prepared.runs[0].config, outcome)
        if command := _resume_command(prepared, outcome):
            lines["resume"] = command
        if queue.view_hint:
            lines["view"] = queue.view_hint
        for name, value in lines.items():
            console.print(f"{name:<9}{value}", soft_wrap=True, highlight=False, markup=False)


def publish(prepared: PreparedSweep, outcome: Outcome, files: Sequence[Path] = ()) -> Path | None:
    """Send the unsent runs, write the report, and print errors. Return the page of the report, or None.

    `files` are sent to the tracker with the report.
    """
    queue = prepared.queue
    prepared.progress.close()
    sweep_file.write_end(prepared.previous)
    queue.complete()
    report = None if outcome.not_written else _write_report(prepared, outcome, files)
    if outcome.not_measured:
        outcome.errors.append(f"{outcome.not_measured} of {outcome.planned} runs were not measured")
    for line in dict.fromkeys([*queue.errors, *outcome.errors]):
        print(f"visionbench: {visible(line)}", file=sys.stderr)
    return report


def _advice_command(config: ExperimentConfig, outcome: Outcome) -> str:
    """Return the command that recommends one of the measured cases."""
    words = ["visionbench", "advise"]
    if config.output_dir != ExperimentConfig().output_dir:
        words.append(_relative(_shared_folder(outcome)))
    return shlex.join(words)


def _resume_command(prepared: PreparedSweep, outcome: Outcome) -> str:
    """Return the command that measures the cases without a valid result, or nothing if no case failed or is missing."""
    from visionbench.core import FAILED
    from visionbench.records.sweep import resume_command
    from visionbench.resume.choices import WORDS

    place = next((run.request.place for run in prepared.previous if run.request and run.request.place), None)
    failed = any(row.status in WORDS[FAILED] for run in outcome.runs for row in run.results)
    if place is None or prepared.elsewhere or not (failed or len(outcome.runs) < outcome.planned):
        return ""
    return resume_command(place.sweep_folder, place.sweep)


def _write_report(prepared: PreparedSweep, outcome: Outcome, more: Sequence[Path] = ()) -> Path | None:
    """Write the report beside the runs' folders, and attach it and `more` files to the first run in the tracker.

    The report of a continued sweep has all its runs.
    """
    config, queue, runs, folder = prepared.runs[0].config.report, prepared.queue, outcome.runs, None
    if prepared.resumption is not None and outcome.runs:
        from visionbench.results import archive

        folder = prepared.resumption.sweep.folder
        runs = archive.of_folder(folder)
    enabled = max(outcome.planned, len(runs)) > 1 if config.enabled is None else config.enabled
    if not enabled or not outcome.runs:
        return None
    from visionbench.report.page import write_report

    first = outcome.runs[0].folder
    assert first is not None
    try:
        files = write_report(runs, config.language, folder or _shared_folder(outcome))
    except Exception as error:  # an error of any kind must not hide the results, which are on disk
        outcome.errors.append(f"report: {type(error).__name__}: {first_line(error)}; try visionbench report")
        return None
    queue.attach(first.path, [*files, *more])
    return files[0]


def _shared_folder(outcome: Outcome) -> Path:
    """Return the folder of the sweep, or of the run if it is the only one."""
    return outcome.folders[0] if len(outcome.folders) == 1 else outcome.folders[0].parent


def _relative(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
