"""`visionbench summarize RUN`: compute the metrics again from the raw samples, and compare them with results.jsonl."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from math import isclose
from pathlib import Path

from visionbench import validity
from visionbench.config import build_metric
from visionbench.core import OK, CaseResult, QualityMetric, first_line
from visionbench.measuring import compute
from visionbench.records.folder import RunFolder
from visionbench.records.record import Settings
from visionbench.results import archive
from visionbench.results.archive import Run
from visionbench.results.repeats import folders, gather, tolerance
from visionbench.terminal import table
from visionbench.terminal.console import screen

ROUNDING = 1e-9
"""Relative difference up to which two values count as equal: other versions of scipy change the eleventh digit."""


def show(name: str | Path, output_dir: Path = Path("outputs")) -> int:
    """Print the table of recomputed metrics of a run, or of each run of a sweep.

    Return exit code 1 if a value differs from the reported value, if samples cannot be read, or if a folder is damaged.
    Raises ConfigError if there is no such run or sweep.
    """
    console = screen()
    recomputed, lines = [], []
    damages = archive.Damages()
    for run in _runs(str(name), output_dir, damages):
        if run.folder is None:
            recomputed.append(run)
            continue
        rows, faults = recompute_run(run)
        reported = {row.case.id: row for row in run.results}
        changes = [line for row in rows for line in differences(reported[row.case.id], row)]
        lines += [f"{run.folder.path}: {line}" for line in (*faults, *changes)]
        if rows:
            recomputed.append(replace(run, results=rows))
    if recomputed:
        table.show(recomputed, console)
    console.print()
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    count = sum(len(row.metrics.values) for run in recomputed for row in run.results)
    if not count and not lines:
        console.print("no case has samples, so no metric can be computed again")
    elif not lines:
        place = _place([run.folder.path for run in recomputed if run.folder is not None])
        console.print(f"{count} values computed again from {place}: all as reported", soft_wrap=True)
    return damages.exit_code(1 if lines else 0, recomputed)


def _runs(name: str, output_dir: Path, damages: archive.Damages) -> list[Run]:
    """Return the run of a folder or of a results.jsonl, or the runs of a sweep."""
    path = Path(name)
    for folder in (path, path.parent):
        if folder / "results.jsonl" in (path / "results.jsonl", path) and (folder / "results.jsonl").is_file():
            return archive.of_sweep(output_dir, str(folder), "RUN", damages)
    return archive.of_sweep(output_dir, name, "RUN", damages)


def _place(paths: Sequence[Path]) -> str:
    """Return the folder of the samples: that of the only run, or the number of runs and the folder that they share."""
    if len(paths) == 1:
        return str(paths[0] / "samples")
    return f"the samples of {len(paths)} runs in {os.path.commonpath(paths)}"


def recompute_run(run: Run) -> tuple[list[CaseResult], list[str]]:
    """Return the rows of a run computed from its samples, and a line for each case whose samples cannot be used.

    With repeats, the rows are computed from those of the repeats.
    """
    assert run.folder is not None
    processes = [(folder, Run.read(folder)) for folder in folders(run.folder)] or [(run.folder, run)]
    rows_by_process: list[list[CaseResult]] = []
    faults: dict[str, str] = {}
    for folder, process in processes:
        rows_by_process.append([])
        for row in process.results:
            try:
                rows_by_process[-1].append(recompute(folder, process.record.settings, row))
            except Exception as error:  # damaged samples may make a metric raise any error
                reason = first_line(error).removeprefix(f"{folder.path}: ") or type(error).__name__
                faults[row.case.id] = f"the samples cannot be read ({row.case.id}: {reason})"
    rows = rows_by_process[0]
    if len(processes) > 1 or run.record.repeats:
        planned = run.record.repeats.planned if run.record.repeats else 1
        rows = [row for row, _ in gather(rows_by_process, run.declarations, planned, tolerance(run.record))]
    planned_ids = {row.case.id for row in run.results}
    readable = [row for row in rows if row.case.id in planned_ids and row.case.id not in faults]
    return readable, list(faults.values())


def recompute(folder: RunFolder, settings: Settings, row: CaseResult) -> CaseResult:
    """Return the row with metrics and validity computed from its samples. Quality is computed from the predictions.

    A row without numbers is returned unchanged. Raises ConfigError if samples cannot be read.
    """
    if row.status != OK:
        return row
    groups = {name: build_metric(name, settings.options_of(name)) for name in row.case.metrics}
    samples = folder.samples(row.case.id)
    if row.case.is_quality and (predictions := folder.predictions()):
        for metric in groups.values():
            if isinstance(metric, QualityMetric):
                samples = samples.merged(metric.score(predictions))
    return replace(row, metrics=compute(groups, samples), validity=validity.judge(samples))


def differences(old: CaseResult, new: CaseResult) -> list[str]:
    """Return a line for each metric whose value changed by more than rounding."""
    names = dict.fromkeys([*old.metrics.values, *new.metrics.values])
    return [
        f"{old.case.id} {name}: reported {old.metrics.values.get(name)}, now {new.metrics.values.get(name)}"
        for name in names
        if not _are_equal(old.metrics.values.get(name), new.metrics.values.get(name))
    ]


def _are_equal(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is new
    return isclose(old, new, rel_tol=ROUNDING, abs_tol=ROUNDING)
