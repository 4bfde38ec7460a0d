"""The cases of a task that can be chosen, and the reason for each case that is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from visionbench.core import ACROSS_PROCESSES, INVALID, OK, WARNED, CaseResult, MetricDeclaration, Samples
from visionbench.core import interval_ends as ends_of
from visionbench.results import declared, summary
from visionbench.results.archive import Run
from visionbench.statistics.resampling import value_with_interval
from visionbench.statistics.timings import mean_interval, quantile_interval

P50, P95 = "p50", "p95"
"""The latencies that a bound is compared with."""
METRIC_OF = {P50: summary.LATENCY, P95: "latency_p95_ms"}

INVALID_CASE = "invalid"
NOT_MEASURED = "not measured"
NO_THROUGHPUT = "no throughput"
NO_LATENCY = "no latency"
TOO_SLOW = "too slow"
NO_MEMORY = "no memory"
TOO_LARGE = "too large"
NO_QUALITY = "no quality"
TOO_INACCURATE = "too inaccurate"
"""The reasons for leaving out a case."""


@dataclass(frozen=True)
class Bounds:
    """The limits that a chosen case must meet. None is no limit."""

    latency_ms: float | None = None
    """The largest p95 of a call, or the largest p50 if there are too few calls for p95."""
    memory_mib: float | None = None
    quality_loss: float = 0.01
    """The share of the best quality of the task that may be lost."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, if one is known. `high` may be infinite."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The interval, or the value twice if no interval is known."""
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        return low, high

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None and self.high is not None

    def overlaps(self, other: Estimate) -> bool:
        """Return whether the intervals have a value in common. Two values without an interval never overlap."""
        if not (self.known or other.known):
            return False
        (low, high), (other_low, other_high) = self.ends, other.ends
        return low <= other_high and other_low <= high

    def contains(self, limit: float) -> bool:
        """Return whether the limit is inside the interval, so that the value cannot be decided to be below it."""
        low, high = self.ends
        return self.known and low <= limit < high

    def ratio(self, base: Estimate) -> Estimate:
        """Return this ÷ base. The bounds are those of the quotient of both intervals, which contain its interval."""
        value = self.value / base.value
        if not (self.known and base.known):
            return Estimate(value)
        (low, high), (base_low, base_high) = self.ends, base.ends
        return Estimate(value, low / base_high, high / base_low if base_low > 0 else math.inf)


@dataclass(frozen=True)
class Candidate:
    """A case that can be chosen, with the numbers that the rule compares."""

    run: Run
    row: CaseResult
    throughput: Estimate
    p50: Estimate | None
    p95: Estimate | None
    peak_mib: float | None
    quality: float | None
    calls: int | None
    """The number of calls of the latency window."""

    @property
    def batch_size(self) -> int:
        """The batch size of the case."""
        return self.row.case.batch_size

    @property
    def questionable(self) -> bool:
        """Whether the case, or the quality of its run, is questionable."""
        quality = self.run.quality
        doubtful = self.quality is not None and quality is not None and quality.validity.verdict == WARNED
        return self.row.validity.verdict == WARNED or doubtful

    @property
    def latency(self) -> tuple[str, Estimate] | None:
        """The latency that a bound is compared with: p95, or p50 if the calls are too few for p95."""
        if self.p95 is not None:
            return P95, self.p95
        return None if self.p50 is None else (P50, self.p50)


@dataclass(frozen=True)
class LeftOut:
    """A case that is not chosen, with the reason and a detail such as its status or its latency."""

    run: Run
    row: CaseResult
    reason: str
    detail: str = ""
    open: bool = False
    """Whether the interval of the value contains the limit, so that the reason is not certain."""


@dataclass
class Gathered:
    """All cases of a task."""

    candidates: list[Candidate] = field(default_factory=list)
    """The cases with numbers that are not invalid."""
    eligible: list[Candidate] = field(default_factory=list)
    """The candidates that meet all bounds but that of the latency."""
    within: list[Candidate] = field(default_factory=list)
    """The candidates that meet all bounds."""
    left_out: list[LeftOut] = field(default_factory=list)
    timed: int = 0
    """The number of all timed cases."""


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


def gather(runs: Sequence[Run], bounds: Bounds) -> Gathered:
    """Sort the cases of one task into those that meet the bounds and those that are left out."""
    gathered = Gathered()
    for run in runs:
        for row in run.timed:
            gathered.timed += 1
            candidate = _candidate(run, row)
            if isinstance(candidate, LeftOut):
                gathered.left_out.append(candidate)
            else:
                gathered.candidates.append(candidate)
    best = _best_qualities(gathered.candidates)
    for candidate in gathered.candidates:
        if (why := _quality_reason(candidate, best, bounds) or _memory_reason(candidate, bounds)) is not None:
            gathered.left_out.append(why)
            continue
        gathered.eligible.append(candidate)
        if (why := _latency_reason(candidate, bounds)) is not None:
            gathered.left_out.append(why)
        else:
            gathered.within.append(candidate)
    return gathered


def _candidate(run: Run, row: CaseResult) -> Candidate | LeftOut:
    if row.status != OK:
        return LeftOut(run, row, NOT_MEASURED, row.status)
    if row.validity.verdict == INVALID:
        return LeftOut(run, row, INVALID_CASE, str(row.validity.reasons[0]) if row.validity.reasons else "")
    values, name = row.metrics.values, summary.throughput_name(run.timed)
    speed = values.get(name)
    if not speed:
        return LeftOut(run, row, NO_THROUGHPUT)
    samples, quality, calls = _samples(run, row), headline(run), values.get("latency_calls_count")
    invalid_quality = run.quality is not None and run.quality.validity.verdict == INVALID
    return Candidate(
        run,
        row,
        _throughput(row, name, speed, samples),
        _latency(row, P50, 0.5, samples),
        _latency(row, P95, 0.95, samples),
        peak(row),
        quality[1] if quality and not invalid_quality else None,
        None if calls is None else round(calls),
    )


def _samples(run: Run, row: CaseResult) -> Samples:
    """Return the raw samples of a case that one process measured; empty if there are none."""
    if run.folder is None or run.record.repeats:
        return Samples()
    return Samples(run.series(row.case.id))


def _throughput(row: CaseResult, name: str, speed: float, samples: Samples) -> Estimate:
    """Return the throughput with its interval across processes, or else with that of the calls of one process.

    The interval of one process is that of Student for the mean time of a call. It holds for independent calls.
    """
    low, high = (row.metrics.values.get(end) for end in ends_of(name, ACROSS_PROCESSES))
    if low is not None and high is not None:
        return Estimate(speed, low, high)
    completed = samples.get("throughput/completed_s")
    interval = mean_interval(np.diff(completed, prepend=0.0)) if len(completed) else None
    if interval is None:
        return Estimate(speed)
    work = speed * float(completed.max()) / len(completed)
    shortest, longest = interval
    return Estimate(speed, work / longest, work / shortest if shortest > 0 else math.inf)


def _latency(row: CaseResult, name: str, share: float, samples: Samples) -> Estimate | None:
    """Return a percentile of the latency with its interval across processes, or within one process."""
    values, metric = row.metrics.values, METRIC_OF[name]
    value = values.get(metric)
    if value is None:
        return None
    ends: list[tuple[float | None, float | None]] = []
    if name == P50:
        ends = [(values.get(low), values.get(high)) for low, high in map(summary.latency_ends, (True, False))]
    for low, high in ends:
        if low is not None and high is not None:
            return Estimate(value, low, high)
    interval = quantile_interval(samples.get("latency/host_s") * 1e3, share)
    return Estimate(value, *interval) if interval else Estimate(value)


# -------------------------------------------------------------------------------------------------------------- bounds
def _quality_key(run: Run) -> tuple[str, str, str]:
    """Return the metric and the data of a run's quality. Only values with equal keys are compared."""
    shown = headline(run)
    return shown[0].name if shown else "", run.record.settings.data.name, str(run.record.data.contents_sha256)


def _best_qualities(candidates: Sequence[Candidate]) -> dict[tuple[str, str, str], float]:
    """Return the best quality for each metric and data."""
    best: dict[tuple[str, str, str], float] = {}
    for candidate in candidates:
        if candidate.quality is not None:
            key = _quality_key(candidate.run)
            sign = _direction(candidate.run)
            known = best.get(key)
            best[key] = candidate.quality if known is None else sign * max(sign * known, sign * candidate.quality)
    return best


def _direction(run: Run) -> int:
    shown = headline(run)
    return declared.direction(shown[0] if shown else None) or 1


def _quality_reason(candidate: Candidate, best: dict[tuple[str, str, str], float], bounds: Bounds) -> LeftOut | None:
    """Return why the quality excludes a case. If the quality of no case is known, it excludes none."""
    if not best:
        return None
    if candidate.quality is None:
        return LeftOut(candidate.run, candidate.row, NO_QUALITY)
    sign, top = _direction(candidate.run), best[_quality_key(candidate.run)]
    limit = top - sign * bounds.quality_loss * abs(top)
    if sign * candidate.quality >= sign * limit:
        return None
    shown, row = headline(candidate.run), candidate.run.quality
    estimate = value_with_interval(shown[0].name, row.metrics.values) if shown and row else None
    interval = estimate[1] if estimate else None
    detail = f"{shown[0].heading('en') if shown else ''} {candidate.quality:.4f} < {limit:.4f}".strip()
    reaches = interval is not None and interval[0] <= limit <= interval[1]
    return LeftOut(candidate.run, candidate.row, TOO_INACCURATE, detail, reaches)


def _memory_reason(candidate: Candidate, bounds: Bounds) -> LeftOut | None:
    if bounds.memory_mib is None:
        return None
    if candidate.peak_mib is None:
        return LeftOut(candidate.run, candidate.row, NO_MEMORY)
    if candidate.peak_mib > bounds.memory_mib:
        return LeftOut(candidate.run, candidate.row, TOO_LARGE, f"{candidate.peak_mib:,.0f} MiB")
    return None


def _latency_reason(candidate: Candidate, bounds: Bounds) -> LeftOut | None:
    if bounds.latency_ms is None:
        return None
    if candidate.latency is None:
        return LeftOut(candidate.run, candidate.row, NO_LATENCY)
    name, latency = candidate.latency
    if latency.value > bounds.latency_ms:
        detail = f"{name} {summary.text(latency.value)} ms"
        return LeftOut(candidate.run, candidate.row, TOO_SLOW, detail, latency.contains(bounds.latency_ms))
    return None


def grouped(left_out: Sequence[LeftOut]) -> Iterator[tuple[str, str, list[LeftOut]]]:
    """Yield each reason, the kind of its detail (a status, or a kind of doubt; else empty), and its cases."""
    groups: dict[tuple[str, str], list[LeftOut]] = {}
    for case in left_out:
        kind = case.detail.partition(": ")[0] if case.reason in (INVALID_CASE, NOT_MEASURED) else ""
        groups.setdefault((case.reason, kind), []).append(case)
    for (reason, kind), cases in sorted(groups.items(), key=lambda item: -len(item[1])):
        yield reason, kind, cases
