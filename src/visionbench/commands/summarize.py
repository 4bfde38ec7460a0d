"""`visionbench summarize RUN`: the metrics once more from the raw samples, held against what was reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from visionbench import validity
from visionbench.config import build_part
from visionbench.core import OK, CaseResult, Metrics, QualityMetric
from visionbench.records.folder import RunFolder
from visionbench.results import declared
from visionbench.results.archive import Run
from visionbench.results.repeats import folders, gather
from visionbench.runner import compute
from visionbench.terminal import table
from visionbench.terminal.console import screen


def show(path: Path) -> int:
    """Print the table from recomputed metrics; exit code 1 where one differs from the reported value."""
    folder = RunFolder.open(path)
    console = screen()
    reported = folder.results()
    again = [recompute(folder, row) for row in reported]
    if repeats := folders(folder):
        recomputed = [[recompute(one, row) for row in one.results()] for one in repeats]
        again = [row for row, _ in gather(recomputed, declared.of_record(folder.record()))]
    table.show([Run(folder.record(), again)], console)
    console.print()
    differences = [line for old, new in zip(reported, again, strict=True) for line in differing(old, new)]
    for line in differences:
        console.print(line, highlight=False)
    count = sum(len(row.metrics.values) for row in again)
    if not count:
        console.print("no case has samples, so there is nothing to compute again")
    elif not differences:
        console.print(f"{count} values computed again from {path / 'samples'}: all as reported", soft_wrap=True)
    return 1 if differences else 0


def recompute(folder: RunFolder, row: CaseResult) -> CaseResult:
    """The row with metrics and validity from its samples; those of quality are scored again from the predictions.

    A row without numbers stays as it is.
    """
    if row.status != OK:
        return row
    options = folder.conditions()["config"]["metrics"]
    groups = {name: build_part("metrics", name, options[name] or {}, f"metrics.{name}") for name in row.case.metrics}
    samples = folder.samples(row.case.id)
    if not row.case.timed and (predictions := folder.predictions()):
        for metric in groups.values():
            if isinstance(metric, QualityMetric):
                samples = samples.merged(metric.score(predictions))
    return replace(row, metrics=compute(groups, samples), validity=validity.judge(samples))


def differing(old: CaseResult, new: CaseResult) -> list[str]:
    """A line for each metric whose value changed."""
    names = dict.fromkeys([*old.metrics.values, *new.metrics.values])
    return [
        f"{old.case.id} {name}: reported {_of(old.metrics, name)}, now {_of(new.metrics, name)}"
        for name in names
        if _of(old.metrics, name) != _of(new.metrics, name)
    ]


def _of(metrics: Metrics, name: str) -> float | None:
    return metrics.values.get(name)
