"""The changes to the files of earlier runs before a session measures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from visionbench import runner
from visionbench.records.folder import RunFolder
from visionbench.records.record import FINISHED, RunRecord


def empty(path: Path) -> None:
    """Put aside the rows of a run without numbers, so that a run under other conditions uses its folder."""
    for folder in [path, *path.glob("repeats/*/")]:
        rows = folder / "results.jsonl"
        if rows.is_file() and rows.stat().st_size:
            numbers = (number for number in range(1, 10_000) if not _aside(folder, number).exists())
            rows.rename(_aside(folder, next(numbers)))
        rows.unlink(missing_ok=True)
        (folder / "run.json").unlink(missing_ok=True)


def _aside(folder: Path, number: int) -> Path:
    return folder / f"results.earlier-{number}.jsonl"


def remove_gathered(path: Path) -> None:
    """Remove the gathered record and rows of a run with repeats, so that readers gather the repeats meanwhile."""
    (path / "run.json").unlink(missing_ok=True)
    (path / "results.jsonl").unlink(missing_ok=True)


def complete(path: Path) -> None:
    """Write the status of a run that has a row for each case, but was killed before it wrote its status."""
    folder = RunFolder(path)
    record = folder.record()
    rows = folder.results()
    if record.status != FINISHED and {case.id for case in record.plan.cases} <= {row.case.id for row in rows}:
        _finalise(folder, record)


def remove_from_plan(path: Path, cases: Collection[str]) -> None:
    """Remove cases without a row from the plan of a run, because another run of the sweep measures them."""
    if not cases:
        return
    folder = RunFolder(path)
    record = folder.record()
    remaining = tuple(case for case in record.plan.cases if case.id not in cases)
    _finalise(folder, replace(record, plan=replace(record.plan, cases=remaining)))


def _finalise(folder: RunFolder, record: RunRecord) -> None:
    status = runner.run_status(folder.results())
    folder.write_record(replace(record, status=status, process=None))
