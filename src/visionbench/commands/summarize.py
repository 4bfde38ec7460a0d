"""`visionbench summarize RUN`: compute the metrics again from the raw samples, and compare them with results.jsonl."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from math import isclose
from pathlib import Path

from visionbench import validity
from visionbench.config import build_part
from visionbench.core import OK, CaseResult, ConfigError, QualityMetric, first_line
from visionbench.measuring import compute
from visionbench.records.folder import RunFolder
from visionbench.results import archive, declared
from visionbench.results.archive import Run
from visionbench.results.repeats import folders, gather
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
        reported, folder = run.results, run.folder
        if folder is None:
            recomputed.append(run)
            continue
        try:
            rows = recompute_run(folder, reported)
        except (ConfigError, OSError, ValueError) as error:
            lines.append(f"{folder.path}: the samples cannot be read ({first_line(error)})")
            continue
        recomputed.append(replace(run, results=rows))
        lines += [
            f"{folder.path}: {line}" for old, new in zip(reported, rows, strict=True) for line in differences(old, new)
        ]
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


def recompute_run(folder: RunFolder, reported: Sequence[CaseResult]) -> list[CaseResult]:
    """Return the rows of a run computed from its samples. With repeats, they are computed from those of the repeats."""
    if repeats := folders(folder):
        rows_by_repeat = [[recompute(repeat, row) for row in repeat.results()] for repeat in repeats]
        return [row for row, _ in gather(rows_by_repeat, declared.of_record(folder.record()))]
    return [recompute(folder, row) for row in reported]


def recompute(folder: RunFolder, row: CaseResult) -> CaseResult:
    """Return the row with metrics and validity computed from its samples. Quality is computed from the predictions.

    A row without numbers is returned unchanged.
    """
    if row.status != OK:
        return row
    settings = folder.record().settings
    groups = {
        name: build_part("metrics", name, settings.options_of(name), f"metrics.{name}") for name in row.case.metrics
    }
    samples = folder.samples(row.case.id)
    if not row.case.timed and (predictions := folder.predictions()):
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
