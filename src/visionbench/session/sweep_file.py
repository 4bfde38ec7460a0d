"""Keep sweep.json: write the planned runs before the first is measured, and the end of the command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.core import ConfigError
from visionbench.credentials import public
from visionbench.session.values import PreparedRun, PreparedSweep, Resumption

if TYPE_CHECKING:
    from visionbench.records.sweep import SweepRecord


def write(runs: Sequence[PreparedRun], resumption: Resumption | None = None) -> None:
    """Write sweep.json. A run whose folder has results already keeps its entry, because it will be refused.

    A command that continues only a part of a sweep does not replace the command of the sweep.
    """
    from visionbench.records.sweep import PlannedRun, SweepRecord
    from visionbench.resume import matching

    places = [(run, run.request.place) for run in runs if run.request and run.request.place]
    if resumption is not None:
        places = [(run, place) for run, place in places if run.assignment and run.assignment.needed]
    if not places:
        return
    folder, sweep = places[0][1].sweep_folder, places[0][1].sweep
    planned = [
        PlannedRun(
            os.path.relpath(place.folder, folder),
            run.plan,
            tuple(map(public, run.request.overrides if run.request else ())),
            run.yaml,
        )
        for run, place in places
        if resumption is not None or not (place.folder / "results.jsonl").exists()
    ]
    if planned:
        folder.mkdir(parents=True, exist_ok=True)
        record = SweepRecord.start(sweep, planned).joined(_earlier_record(folder))
        if resumption is not None and resumption.sweep.record is not None:
            assignments = [run.assignment for run in runs if run.assignment]
            if matching.unplanned(resumption.sweep, assignments):
                record = replace(record, command=resumption.sweep.record.command)
        record.write(folder)


def expect_jobs_after_command(prepared: PreparedSweep) -> None:
    """Write into sweep.json that the runs are jobs in a queue, which may start after the command has ended."""
    from visionbench.records.sweep import SweepRecord

    for folder in _sweep_folders(prepared.runs):
        if (record := SweepRecord.read(folder)) is not None:
            replace(record, outlived=True).write(folder)


def remove_sweep_record(prepared: PreparedSweep) -> None:
    """Remove sweep.json, because no run of the sweep was started."""
    from visionbench.records.sweep import FILE

    for folder in _sweep_folders(prepared.runs):
        (folder / FILE).unlink(missing_ok=True)


def _sweep_folders(runs: Sequence[PreparedRun]) -> list[Path]:
    places = [run.request.place for run in runs if run.request and run.request.place]
    return list(dict.fromkeys(place.sweep_folder for place in places))


def write_end(runs: Sequence[PreparedRun]) -> None:
    """Write the end of the command into sweep.json. A fault does not affect the results, which are on disk."""
    from visionbench.records.sweep import SweepRecord

    for folder in _sweep_folders(runs):
        with suppress(ConfigError, OSError):
            if (record := SweepRecord.read(folder)) is not None:
                record.ended(folder).write(folder)


def _earlier_record(folder: Path) -> SweepRecord | None:
    """Return the record of an earlier command in the same folder, or None if there is none that can be read."""
    from visionbench.records.sweep import SweepRecord

    with suppress(ConfigError):
        return SweepRecord.read(folder)
    return None
