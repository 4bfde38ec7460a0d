"""Several fresh processes for each run: the order in which they measure, and how their rows become one row.

The medians of processes differ, so only the spread across processes shows how reproducible a number is. Calls of
different processes are never pooled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from random import Random

import numpy as np

from visionbench.config import PROCESSES_WITHIN
from visionbench.core import (
    ACROSS_PROCESSES,
    GEOMETRIC_MEAN,
    INVALID,
    LARGEST,
    OK,
    SERVING,
    SMALLEST,
    VALID,
    WARNED,
    Case,
    CaseResult,
    Metrics,
    Reason,
    RunPlan,
    Samples,
    Validity,
    interval_ends,
    interval_half_width,
)
from visionbench.declarations import Declarations
from visionbench.records import atomic
from visionbench.records.folder import RunFolder
from visionbench.records.record import FINISHED, LOST, RUNNING, STOPPED, UNSUCCESSFUL, Repeats, RunRecord
from visionbench.results import declared
from visionbench.statistics.timings import across_interval

ACROSS = "across/"
WITHIN_PROCESS = ("autocorrelated", "not_converged")
"""Doubts that concern only the interval within one process."""


def order(repeats: Sequence[int], seed: int) -> list[tuple[int, int]]:
    """Return the order of measurement as pairs of repeat (from 1) and index of the run.

    `repeats` has the number of repeats of each run. Every run has its first turn before any run has its second turn.
    Within a round the order is random, and equal for equal seeds.
    """
    shuffled = Random(seed)
    rounds = []
    for repeat in range(1, max(repeats, default=0) + 1):
        turn = [(repeat, index) for index, count in enumerate(repeats) if count >= repeat]
        shuffled.shuffle(turn)
        rounds.append(turn)
    return list(chain.from_iterable(rounds))


def planned(plan: RunPlan, repeat: int) -> RunPlan:
    """Return the plan of a repeat. Only the first repeat measures quality, because quality is the same each time."""
    return plan if repeat == 1 else replace(plan, cases=tuple(case for case in plan.cases if not case.is_quality))


def gather(
    repeats: Sequence[Sequence[CaseResult]],
    declarations: Declarations,
    planned: int = 1,
    within: float = PROCESSES_WITHIN,
) -> list[tuple[CaseResult, Samples]]:
    """Combine the rows of the processes into one row for each case.

    The values of the processes are its samples, in series `across/<metric>`. A case with fewer rows than
    `planned` processes has the doubt `processes_lost`. A case whose interval across processes extends by more than the
    fraction `within` to each side has the doubt `processes_differ`.
    """
    results_by_case: dict[str, list[CaseResult]] = {}
    for result in chain.from_iterable(repeats):
        results_by_case.setdefault(result.case.id, []).append(result)
    return [
        _combine_case(results, declarations, planned if _in_each_process(results[0].case) else 1, within)
        for results in results_by_case.values()
    ]


def _in_each_process(case: Case) -> bool:
    """Return whether each process measures the case. Quality is measured once, and each search has its own loads."""
    return case.timed or case.id == SERVING


def tolerance(record: RunRecord) -> float:
    """Return `measure.processes_within` of a run, or its default for a run of an earlier version."""
    return float(record.settings.measure.get("processes_within", PROCESSES_WITHIN))


def combine(repeats: Sequence[RunRecord], seed: int, planned: int) -> RunRecord:
    """Return the record of all processes together: that of the first, with the status and the times of all.

    A run with fewer processes than planned was interrupted. A run with only quality needs one process.
    """
    statuses = [record.status for record in repeats]
    incomplete = any(map(_in_each_process, repeats[0].plan.cases)) and len(repeats) < planned
    worst = next((status for status in (LOST, STOPPED, UNSUCCESSFUL, RUNNING) if status in statuses), FINISHED)
    seconds: Counter[str] = Counter()
    for record in repeats:
        seconds.update(record.seconds)
    return replace(
        repeats[0],
        status=STOPPED if incomplete and worst == FINISHED else worst,
        ended_at=repeats[-1].ended_at,
        seconds=dict(seconds),
        repeats=Repeats(planned, len(repeats), seed, tuple(record.started_at for record in repeats)),
    )


def across(samples: Samples, declarations: Declarations) -> Metrics:
    """Compute metrics over processes from the series `across/<metric>`.

    Each metric is gathered as declared, and has a 95 % interval and half its width if they are declared.
    """
    values: dict[str, float | None] = {}
    for series, process_values in samples.series.items():
        name = series.removeprefix(ACROSS)
        declaration = declarations.find(name)
        values[name] = _centre(process_values, declaration.gather if declaration else GEOMETRIC_MEAN)
        if declaration is None or ACROSS_PROCESSES not in declaration.intervals:
            continue
        if (interval := across_interval(process_values)) is not None:
            centre, low, high = interval
            values |= dict(zip(interval_ends(name, ACROSS_PROCESSES), (low, high), strict=True))
            values[interval_half_width(name)] = (high - low) / 2 / centre
    return Metrics(values)


def folders(folder: RunFolder) -> list[RunFolder]:
    """Return the folders of the repeats of a run in order; empty if one process measured the run."""
    paths = [path.parent for path in (folder.path / "repeats").glob("*/run.json") if path.parent.name.isdecimal()]
    return [RunFolder(path) for path in sorted(paths, key=lambda path: int(path.name))]


def write(folder: RunFolder, seed: int, planned: int) -> None:
    """Gather the repeats of a run into the folder of the run.

    The record is written last. Until then, readers gather the repeats themselves.
    """
    repeats = folders(folder)
    record = combine([repeat.record() for repeat in repeats], seed, planned)
    atomic.write(folder.path / "results.jsonl", "")  # rows that were gathered before the run was resumed
    rows = [repeat.results() for repeat in repeats]
    for result, samples in gather(rows, declared.of_record(record), planned, tolerance(record)):
        first = repeats[0].predictions() if result.case.is_quality else None
        folder.append(result, samples, first)
    folder.write_record(record)


def _combine_case(
    results: Sequence[CaseResult], declarations: Declarations, planned: int, within: float
) -> tuple[CaseResult, Samples]:
    measured = [result for result in results if result.status == OK]
    if not measured:
        return results[0], Samples()
    series, reasons = {}, {}
    for name in dict.fromkeys(chain.from_iterable(result.metrics.values for result in measured)):
        known = [value for result in measured if (value := result.metrics.values.get(name)) is not None]
        if len(known) == len(measured):
            series[ACROSS + name] = np.array(known)
        else:
            reason = next(
                (result.metrics.reasons[name] for result in measured if name in result.metrics.reasons), "unknown"
            )
            reasons[name] = (
                reason
                if not known
                else f"{len(measured) - len(known)} of {len(measured)} processes have none: {reason}"
            )
    lost = [f"{result.status}: {result.reason}" for result in results if result.status != OK]
    lost += ["the process did not start"] * (planned - len(results))
    flags = {"processes_lost": f"{len(lost)} of {max(planned, len(results))}: {lost[0]}"} if lost else {}
    samples = Samples(series, flags=flags)
    metrics = across(samples, declarations).merged(Metrics(dict.fromkeys(reasons), reasons))
    labels = {**measured[0].labels, "processes": str(len(measured))}
    labels |= {
        f"{name}_of_process_{number}": text
        for number, result in enumerate(results, 1)
        for name, text in result.labels.items()
        if name.endswith(("_retried", "resumed"))
    }
    validity = _combine_validity(measured, flags, _differences(metrics, len(measured), declarations, within))
    return replace(measured[0], metrics=metrics, validity=validity, labels=labels), samples


def _differences(metrics: Metrics, processes: int, declarations: Declarations, within: float) -> list[Reason]:
    """Return a reason for each metric whose interval across processes is too wide."""
    reasons = []
    for name in metrics.values:
        width = metrics.values.get(interval_half_width(name))
        declaration = declarations.find(name)
        if width is not None and declaration is not None and width > within:
            values = "rates" if declaration.unit == "1/s" else "medians"
            detail = f"the {values} of {processes} processes differ: {declaration.title or name} is known to "
            reasons.append(Reason("processes_differ", f"{detail}±{_percent(width)}, not ±{_percent(within)}"))
    return reasons


def _percent(fraction: float) -> str:
    return f"{fraction:,.0%}" if fraction >= 1 else f"{fraction * 100:.3g}%"


def _combine_validity(
    results: Sequence[CaseResult], flags: Mapping[str, str], differences: Sequence[Reason]
) -> Validity:
    """Return the worst verdict, with each kind of reason once and the number of processes that have it.

    With several processes, doubts about the interval within one process are left out, because the interval is across
    processes; `differences` are the doubts about that interval.
    """
    kinds: dict[str, dict[int, Reason]] = {}
    for index, result in enumerate(results):
        for reason in result.validity.reasons:
            kinds.setdefault(reason.kind, {}).setdefault(index, reason)
    counts = [
        Reason(
            kind, f"{next(iter(process_values.values())).detail} (in {len(process_values)} of {len(results)} processes)"
        )
        for kind, process_values in kinds.items()
        if kind not in WITHIN_PROCESS
    ]
    doubts = counts if len(results) > 1 else results[0].validity.reasons
    reasons = (*(Reason(flag, text) for flag, text in flags.items()), *differences, *doubts)
    invalid = any(result.validity.verdict == INVALID for result in results)
    return Validity(INVALID if invalid else WARNED if reasons else VALID, reasons)


def _centre(values: np.ndarray, gather: str) -> float:
    """Return the largest or smallest value, or the geometric mean (arithmetic mean if a value is zero or less)."""
    if values.min() == values.max():
        return float(values[0])
    if gather == LARGEST:
        return float(values.max())
    if gather == SMALLEST:
        return float(values.min())
    return float(np.exp(np.log(values).mean())) if (values > 0).all() else float(values.mean())
