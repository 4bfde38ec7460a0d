"""Recommendations by rule: the case to choose, and remedies after a failure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from visionbench.core import (
    FAILED,
    INVALID,
    KILLED,
    OK,
    OUT_OF_MEMORY,
    SKIPPED_AFTER_OOM,
    CaseResult,
    MetricDeclaration,
)
from visionbench.results import declared, summary
from visionbench.results.archive import Run

REMEDIES_BY_STATUS: Mapping[str, tuple[str, ...]] = {
    OUT_OF_MEMORY: ("try smaller", "try lower", "try quantised"),
    SKIPPED_AFTER_OOM: ("try smaller", "try lower", "try quantised"),
    KILLED: ("try smaller", "try lower", "try quantised", "try log"),
    FAILED: ("try log",),
}
"""The remedies by status: keys of `translations.WORDS`."""


@dataclass(frozen=True)
class Candidate:
    """A case of a run, with the numbers that the rule compares."""

    run: Run
    row: CaseResult
    throughput: float
    p50_ms: float | None
    p95_ms: float | None
    peak_mib: float | None
    quality: float | None


@dataclass(frozen=True)
class Advice:
    """The recommendation for a task: the chosen, the nearest, the fastest and the smallest case; each may be None."""

    task: str
    candidates: Sequence[Candidate]
    chosen: Candidate | None
    quality_known: bool
    """Whether the choice considered quality."""
    nearest: Candidate | None
    """The case with the lowest p95 of those with sufficient quality."""
    fastest: Candidate | None
    smallest: Candidate | None


def headline(run: Run) -> tuple[MetricDeclaration, float] | None:
    """Return the quality metric that a run is compared by, and its value; None if no quality was measured."""
    row = run.quality
    for declaration in declared.headlines(run.declarations, row)[:1]:
        if row is not None and (value := row.metrics.values[declaration.name]) is not None:
            return declaration, value
    return None


def peak(row: CaseResult) -> float | None:
    """Return the peak memory of a case in MiB: on the device if it was measured there, else of the process."""
    values = (row.metrics.values.get(name) for name in summary.MEMORY)
    return next((value for value in values if value is not None), None)


def advise(runs: Sequence[Run], p95_ms: float, within: float) -> Iterator[Advice]:
    """Yield for each task the case with the largest throughput that has a p95 of at most `p95_ms` and enough quality.

    The quality must be at least (1 − `within`) of the best one. Invalid cases are never chosen.
    """
    for task in dict.fromkeys(run.record.plan.task for run in runs):
        yield _advise_task(task, [run for run in runs if run.record.plan.task == task], p95_ms, within)


def _advise_task(task: str, runs: Sequence[Run], p95_ms: float, within: float) -> Advice:
    candidates = [candidate for run in runs for candidate in _candidates(run)]
    qualities = [candidate.quality for candidate in candidates if candidate.quality is not None]
    known = bool(qualities)
    sufficient = [
        candidate
        for candidate in candidates
        if candidate.quality is not None and candidate.quality >= (1 - within) * max(qualities)
    ]
    sufficient = sufficient if known else candidates
    timed = [candidate for candidate in sufficient if candidate.p95_ms is not None]
    within_limit = [candidate for candidate in timed if candidate.p95_ms is not None and candidate.p95_ms <= p95_ms]
    return Advice(
        task=task,
        candidates=candidates,
        chosen=max(within_limit, key=lambda candidate: candidate.throughput, default=None),
        quality_known=known,
        nearest=min(timed, key=lambda candidate: candidate.p95_ms or 0.0, default=None),
        fastest=min(
            (candidate for candidate in sufficient if candidate.p50_ms is not None),
            key=lambda candidate: candidate.p50_ms or 0.0,
            default=None,
        ),
        smallest=min(
            (candidate for candidate in sufficient if candidate.peak_mib),
            key=lambda candidate: candidate.peak_mib or 0.0,
            default=None,
        ),
    )


def _candidates(run: Run) -> Iterator[Candidate]:
    quality = headline(run)
    name = summary.throughput_name(run.timed)
    for row in run.timed:
        speed = row.metrics.values.get(name)
        if row.status == OK and row.validity.verdict != INVALID and speed is not None:
            values = row.metrics.values
            yield Candidate(
                run,
                row,
                speed,
                values.get("latency_p50_ms"),
                values.get("latency_p95_ms"),
                peak(row),
                quality[1] if quality else None,
            )


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the Pareto front of points for which more is better in both coordinates, sorted by the first one."""
    front: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front[::-1]


def remedies(run: Run, row: CaseResult) -> tuple[str, ...]:
    """Return the remedies for a case without numbers: keys of `translations.WORDS`."""
    keys = REMEDIES_BY_STATUS.get(row.status, ("try again",))
    if row.status in (OUT_OF_MEMORY, KILLED) and run.record.plan.device != "cpu":
        keys = (*keys, "try cpu")
    if row.case.batch_size == 1 or not row.case.timed:
        keys = tuple(key for key in keys if key != "try smaller")
    return keys
