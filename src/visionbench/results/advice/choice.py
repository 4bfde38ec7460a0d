"""The recommended case of a task, the knee of each run, and what each latency bound allows.

The rule with a latency bound: the largest throughput among the cases that are not invalid and meet all bounds. The rule
without one: the knee of the run with the largest throughput.

The knee of a run is the smallest batch size whose throughput is at least KNEE = 95 % of the largest throughput of the
run: b* = min {b : T(b) ≥ 0.95 · max T}. Larger batches need more memory and latency for at most 5 % more throughput.
The definition is that of this project. The 95 % is a convention, not a result from queueing theory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from visionbench.core import OK
from visionbench.results.advice.candidates import P50, P95, Bounds, Candidate, Estimate, Gathered, LeftOut, gather
from visionbench.results.archive import Run

KNEE = 0.95
"""The share of a run's largest throughput that the knee reaches."""


@dataclass(frozen=True)
class Knee:
    """The knee of one run."""

    case: Candidate
    """The smallest batch size that reaches KNEE of the best throughput."""
    best: Candidate
    """The batch size with the largest throughput."""
    possible: Sequence[int]
    """The batch sizes that may be the knee within the intervals. Several if the knee is not decided."""
    sizes: int
    """The number of batch sizes that can be compared."""
    at_end: bool
    """Whether the knee is the largest batch size of the run, so that a larger one may be the knee."""

    @property
    def share(self) -> float:
        """The throughput of the knee ÷ the largest throughput."""
        return self.case.throughput.value / self.best.throughput.value

    @property
    def decided(self) -> bool:
        """Whether the intervals leave only one batch size."""
        return len(self.possible) == 1


@dataclass(frozen=True)
class BestOfBatch:
    """The fastest run at one batch size, and the runs whose intervals overlap with it."""

    batch_size: int
    best: Candidate
    ties: Sequence[Candidate]


@dataclass(frozen=True)
class Advice:
    """The recommendation for the runs of one task."""

    task: str
    runs: Sequence[Run]
    bounds: Bounds
    cases: Gathered
    chosen: Candidate | None
    ties: Sequence[Candidate]
    """Cases that cannot be distinguished from the chosen one, because the intervals of throughput overlap."""
    by: str
    """The latency that decided about the chosen case: `p95`, `p50`, or empty without a latency bound."""
    faster_by_p50: Candidate | None
    """A faster case that meets the bound by p50 but has no p95."""
    nearest: Candidate | None
    """The case with the lowest latency that meets the other bounds, if none meets the latency bound."""
    quality_known: bool
    """Whether the choice considered quality."""
    knees: Sequence[Knee]
    """The knee of each run that has one, the run with the largest throughput first."""
    ladder: Sequence[Candidate]
    """The cases that no other case exceeds in both latency and throughput, by latency."""
    ladder_by: str
    """The latency of the ladder: `p95`, or `p50` if a case has no p95."""
    best_of_batch: Sequence[BestOfBatch]
    fastest: Candidate | None
    """The case with the lowest p50."""
    smallest: Candidate | None
    """The case with the lowest peak memory."""

    @property
    def measured(self) -> bool:
        """Whether any timed case has numbers."""
        return any(row.status == OK for run in self.runs for row in run.timed)

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """The cases that are not chosen, with the reasons."""
        return self.cases.left_out

    @property
    def with_intervals(self) -> bool:
        """Whether every case that meets the bounds has an interval of throughput."""
        return all(candidate.throughput.known for candidate in self.cases.eligible)


def advise(runs: Sequence[Run], bounds: Bounds) -> Iterator[Advice]:
    """Yield the advice for each task, in the order of the runs. Invalid cases are never chosen."""
    for task in dict.fromkeys(run.record.plan.task for run in runs):
        yield _advise_task(task, [run for run in runs if run.record.plan.task == task], bounds)


def _advise_task(task: str, runs: Sequence[Run], bounds: Bounds) -> Advice:
    cases = gather(runs, bounds)
    knees = sorted(_knees(runs, cases.eligible), key=lambda knee: -knee.best.throughput.value)
    chosen, ties = _choose_in_bound(cases.within) if bounds.latency_ms is not None else _choose_knee(knees)
    by = chosen.latency[0] if bounds.latency_ms is not None and chosen is not None and chosen.latency else ""
    ladder_by = P95 if all(case.p95 is not None for case in cases.eligible) else P50
    return Advice(
        task=task,
        runs=runs,
        bounds=bounds,
        cases=cases,
        chosen=chosen,
        ties=ties,
        by=by,
        faster_by_p50=_faster_by_p50(cases.within, chosen) if by == P95 else None,
        nearest=None if chosen else _lowest_latency(cases.eligible),
        quality_known=any(case.quality is not None for case in cases.candidates),
        knees=knees,
        ladder=_ladder(cases.eligible, ladder_by),
        ladder_by=ladder_by,
        best_of_batch=list(_best_of_batch(cases.eligible)),
        fastest=min((case for case in cases.eligible if case.p50), key=lambda case: _value(case.p50), default=None),
        smallest=min(
            (case for case in cases.eligible if case.peak_mib), key=lambda case: case.peak_mib or 0.0, default=None
        ),
    )


# ------------------------------------------------------------------------------------------------------------ choosing
def _choose_in_bound(within: Sequence[Candidate]) -> tuple[Candidate | None, list[Candidate]]:
    """Return the case with the largest throughput, and the cases that cannot be distinguished from it.

    A case whose p95 meets the bound is preferred to a case of which only p50 is known.
    """
    proven = [case for case in within if case.p95 is not None] or within
    if not proven:
        return None, []
    chosen = max(proven, key=lambda case: case.throughput.value)
    return chosen, _overlapping(chosen, proven)


def _choose_knee(knees: Sequence[Knee]) -> tuple[Candidate | None, list[Candidate]]:
    """Return the knee of the fastest run, and the knees of runs whose largest throughput overlaps with its own."""
    if not knees:
        return None, []
    first, *others = knees
    return first.case, [knee.case for knee in others if knee.best.throughput.overlaps(first.best.throughput)]


def _overlapping(chosen: Candidate, cases: Sequence[Candidate]) -> list[Candidate]:
    others = [case for case in cases if case is not chosen and case.throughput.overlaps(chosen.throughput)]
    return sorted(others, key=lambda case: -case.throughput.value)


def _faster_by_p50(within: Sequence[Candidate], chosen: Candidate | None) -> Candidate | None:
    faster = [
        case for case in within if case.p95 is None and chosen and case.throughput.value > chosen.throughput.value
    ]
    return max(faster, key=lambda case: case.throughput.value, default=None)


def _lowest_latency(cases: Sequence[Candidate]) -> Candidate | None:
    timed = [case for case in cases if case.latency is not None]
    return min(timed, key=lambda case: _value(case.latency[1] if case.latency else None), default=None)


def _best_of_batch(cases: Sequence[Candidate]) -> Iterator[BestOfBatch]:
    """Yield the fastest run at each batch size that several runs measured."""
    groups: dict[int, list[Candidate]] = {}
    for case in cases:
        groups.setdefault(case.batch_size, []).append(case)
    for size, same in sorted(groups.items()):
        if len(same) > 1:
            best = max(same, key=lambda case: case.throughput.value)
            yield BestOfBatch(size, best, _overlapping(best, same))


# ------------------------------------------------------------------------------------------------------------ the knee
def _knees(runs: Sequence[Run], cases: Sequence[Candidate]) -> Iterator[Knee]:
    groups: dict[int, list[Candidate]] = {}
    for case in cases:
        groups.setdefault(id(case.run), []).append(case)
    for run in runs:
        if own := groups.get(id(run)):
            largest = max(row.case.batch_size for row in run.timed)
            yield knee(sorted(own, key=lambda case: case.batch_size), largest)


def knee(cases: Sequence[Candidate], largest: int) -> Knee:
    """Return the knee of one run from its cases in order of batch size. `largest` is its largest batch size."""
    best = max(cases, key=lambda case: case.throughput.value)
    limit = KNEE * best.throughput.value
    case = next(one for one in cases if one.throughput.value >= limit)
    possible = [one.batch_size for one in cases if _may_reach(one, best)]
    sure = min(one.batch_size for one in cases if one is best or _reaches(one, best))
    possible = [size for size in possible if size <= max(sure, case.batch_size)]
    return Knee(case, best, possible, len(cases), case.batch_size == largest)


def _may_reach(case: Candidate, best: Candidate) -> bool:
    """Whether the throughput of a case is at least KNEE of the best for some values within the intervals."""
    return case is best or case.throughput.ends[1] >= KNEE * best.throughput.ends[0]


def _reaches(case: Candidate, best: Candidate) -> bool:
    """Whether the throughput of a case is at least KNEE of the best for all values within the intervals."""
    return case.throughput.ends[0] >= KNEE * best.throughput.ends[1]


# ---------------------------------------------------------------------------------------------------------- the bounds
def _ladder(cases: Sequence[Candidate], by: str) -> list[Candidate]:
    """Return the cases that no other case exceeds in both latency and throughput, by latency."""
    front: list[Candidate] = []
    for case in sorted(
        (case for case in cases if latency_of(case, by)),
        key=lambda case: (_value(latency_of(case, by)), -case.throughput.value),
    ):
        if not front or case.throughput.value > front[-1].throughput.value:
            front.append(case)
    return front


def latency_of(case: Candidate, by: str) -> Estimate | None:
    """Return p50 or p95 of a case."""
    return case.p95 if by == P95 else case.p50


def _value(estimate: Estimate | None) -> float:
    return estimate.value if estimate else float("inf")


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the Pareto front of points for which more is better in both coordinates, sorted by the first one."""
    front: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front[::-1]
