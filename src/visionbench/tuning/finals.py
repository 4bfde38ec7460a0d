"""The result of the finals: the finalists beside the baseline, each in several processes that took turns.

The ratio of two configurations has the interval of `welch_ratio` over the values of the processes. A bound of the
latency is held if it is held in each process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from visionbench.core import INVALID, OK
from visionbench.records.tuning import BROKEN, HELD, OPEN, Figure, Finalist, Measurement, Quality
from visionbench.results import repeats
from visionbench.results.archive import Run
from visionbench.statistics.timings import welch_ratio
from visionbench.tuning.objectives import Limits, Objective, with_bounds
from visionbench.tuning.space import Combination
from visionbench.tuning.trials import measurement


@dataclass(frozen=True)
class Entry:
    """A configuration of the finals with the figures of each process."""

    combination: Combination
    gathered: Measurement
    """The figures across processes."""
    processes: Sequence[Measurement]
    quality: Quality | None = None
    baseline: bool = False
    searched: bool = True
    """Whether the configuration is part of the space."""


def read(run: Run, folder: str) -> tuple[Measurement, list[Measurement]]:
    """Return the figures of a run across its processes, and those of each process."""
    assert run.folder is not None
    row = run.timed[0]
    processes = [Run.read(one) for one in repeats.folders(run.folder)]
    singles = [measurement(one, timed) for one in processes for timed in one.timed if timed.status == OK]
    return measurement(run, row, folder), singles


def judge(entry: Entry, limits: Limits) -> tuple[Measurement, str]:
    """Return the figures with the verdict on the bounds, and why the configuration cannot win, or an empty text."""
    gathered, singles = entry.gathered, [with_bounds(one, limits) for one in entry.processes]
    if gathered.status != OK or not singles:
        return gathered, f"{gathered.status.replace('_', ' ')}: {gathered.reason}"
    worst = next((one for state in (BROKEN, OPEN) for one in singles if one.bounds == state), None)
    bounds, reason = (HELD, "") if worst is None else (worst.bounds, worst.bounds_reason)
    gathered = replace(gathered, p95=_widest(gathered.p95, singles), bounds=bounds, bounds_reason=reason)
    if gathered.verdict == INVALID:
        return gathered, f"invalid: {gathered.reason}"
    if bounds != HELD:
        return gathered, reason if bounds == BROKEN else f"the bound is not decided: {reason}"
    if limits.quality is not None and (entry.quality is None or entry.quality.bound != HELD):
        return gathered, entry.quality.reason if entry.quality else "the quality is not known"
    return gathered, "" if entry.searched else "it is not part of the search"


def _widest(value: Figure | None, singles: Sequence[Measurement]) -> Figure | None:
    """Return a value with the interval that contains those of all processes, or without one if any has none."""
    ends = [one.p95.ends for one in singles if one.p95 is not None and one.p95.high is not None]
    if value is None or len(ends) < len(singles):
        return value
    return Figure(value.value, min(low for low, _ in ends), max(high for _, high in ends))


def decide(
    entries: Sequence[Entry], objective: Objective, limits: Limits
) -> tuple[list[Finalist], int | None, list[str]]:
    """Return the finalists with their ratios, the index of the best one or None, and notes about the decision."""
    judged = [judge(entry, limits) for entry in entries]
    values = [_values(entry.processes, objective) for entry in entries]
    finalists = [
        Finalist(
            entry.combination.values,
            gathered,
            quality=entry.quality,
            baseline=entry.baseline,
            excluded=excluded or ("" if objective.score(gathered) else f"the {objective.title} was not measured"),
        )
        for entry, (gathered, excluded) in zip(entries, judged, strict=True)
    ]
    able = [index for index, one in enumerate(finalists) if not one.excluded]

    def score(index: int) -> float:
        figure = objective.score(finalists[index].measurement)
        return figure.value if figure else 0.0

    best = max(able, key=score, default=None)
    base = next((index for index, one in enumerate(finalists) if one.baseline), None)
    for index, one in enumerate(finalists):
        ratio = to_best = None
        if base is not None and base != index and _comparable(finalists[base]) and _comparable(one):
            ratio = _ratio(values[base], values[index])
        if best is not None and best != index and _comparable(one):
            to_best = _ratio(values[best], values[index])
        finalists[index] = replace(one, ratio=ratio, to_best=to_best)
    return finalists, best, list(_notes(finalists, best, objective))


def _comparable(finalist: Finalist) -> bool:
    return finalist.measurement.status == OK and finalist.measurement.verdict != INVALID


def _values(processes: Sequence[Measurement], objective: Objective) -> np.ndarray:
    figures = [objective.figure(one) for one in processes]
    return np.array([one.value for one in figures if one is not None])


def _ratio(base: np.ndarray, other: np.ndarray) -> Figure | None:
    ratio = welch_ratio(base, other)
    return None if ratio is None else Figure(*ratio)


def _notes(finalists: Sequence[Finalist], best: int | None, objective: Objective) -> Sequence[str]:
    """Return sentences about what the decision does not show."""
    name: Callable[[Finalist], str] = describe
    notes = []
    if best is None:
        return []
    winner = finalists[best]
    if winner.baseline:
        notes.append("no configuration is better than the baseline")
    others = [one for index, one in enumerate(finalists) if index != best and not one.excluded]
    equal = [name(one) for one in others if one.to_best and one.to_best.ends[0] <= 1 <= one.to_best.ends[1]]
    if equal:
        notes.append(f"not distinguishable from the best within the intervals: {'; '.join(equal)}")
    if winner.questionable:
        notes.append(f"the best result is questionable: {winner.measurement.reason}")
    base = next((one for one in finalists if one.baseline), None)
    if base is not None and not _comparable(base):
        reason = f"{base.measurement.verdict}: {base.measurement.reason}"
        notes.append(f"there is no ratio, because the baseline is {reason}")
    elif base is not None and base.questionable:
        notes.append(f"the ratio is questionable, because the baseline is: {base.measurement.reason}")
    return notes


def describe(finalist: Finalist) -> str:
    """Return the configuration and the batch size of a finalist."""
    from visionbench.tuning.space import label

    return f"{label(finalist.combination)}, batch size {finalist.measurement.batch_size}"
