"""`visionbench summarize RUN`: compute the metrics again from the raw samples, and compare them with results.jsonl."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from visionbench import validity
from visionbench.config import build_part
from visionbench.core import OK, CaseResult, QualityMetric
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
    recomputed = [recompute(folder, row) for row in reported]
    if repeats := folders(folder):
        rows_by_repeat = [[recompute(repeat, row) for row in repeat.results()] for repeat in repeats]
        recomputed = [row for row, _ in gather(rows_by_repeat, declared.of_record(folder.record()))]
    table.show([Run(folder.record(), recomputed)], console)
    console.print()
    lines = [line for old, new in zip(reported, recomputed, strict=True) for line in differences(old, new)]
    for line in lines:
        console.print(line, highlight=False)
    count = sum(len(row.metrics.values) for row in recomputed)
    if not count:
        console.print("no case has samples, so no metric can be computed again")
    elif not lines:
        console.print(f"{count} values computed again from {path / 'samples'}: all as reported", soft_wrap=True)
    return 1 if lines else 0


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
    """Return a line for each metric whose value changed."""
    names = dict.fromkeys([*old.metrics.values, *new.metrics.values])
    return [
        f"{old.case.id} {name}: reported {old.metrics.values.get(name)}, now {new.metrics.values.get(name)}"
        for name in names
        if old.metrics.values.get(name) != new.metrics.values.get(name)
    ]
