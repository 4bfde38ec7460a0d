"""`visionbench summarize RUN`: compute the metrics again from the raw samples, and compare them with the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from visionbench import validity
from visionbench.config import build_part
from visionbench.core import OK, CaseResult, Metrics, QualityMetric
from visionbench.measuring import compute
from visionbench.records.folder import RunFolder
from visionbench.results import declared
from visionbench.results.archive import Run
from visionbench.results.repeats import folders, gather
from visionbench.terminal import table
from visionbench.terminal.console import screen


def show(path: Path) -> int:
    """Print the table of recomputed metrics; return exit code 1 if one differs from the reported value."""
    folder = RunFolder.open(path)
    console = screen()
    reported = folder.results()
    again = [recompute(folder, row) for row in reported]
    if repeats := folders(folder):
        recomputed = [[recompute(one, row) for row in one.results()] for one in repeats]
        again = [row for row, _ in gather(recomputed, declared.of_record(folder.record()))]
    table.show([Run(folder.record(), again)], console)
    console.print()
    lines = [line for old, new in zip(reported, again, strict=True) for line in differences(old, new)]
    for line in lines:
        console.print(line, highlight=False)
    count = sum(len(row.metrics.values) for row in again)
    if not count:
        console.print("no case has samples, so no metric can be computed again")
    elif not lines:
        console.print(f"{count} values computed again from {path / 'samples'}: all as reported", soft_wrap=True)
    return 1 if lines else 0


def recompute(folder: RunFolder, row: CaseResult) -> CaseResult:
    """Return the row with metrics and validity from its samples; quality is scored again from the predictions.

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
    """Return a line for each metric whose value changed."""
    names = dict.fromkeys([*old.metrics.values, *new.metrics.values])
    return [
        f"{old.case.id} {name}: reported {_value(old.metrics, name)}, now {_value(new.metrics, name)}"
        for name in names
        if _value(old.metrics, name) != _value(new.metrics, name)
    ]


def _value(metrics: Metrics, name: str) -> float | None:
    return metrics.values.get(name)
