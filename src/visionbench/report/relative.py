"""Results as ratios to a baseline, as hardware and models are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from visionbench.core import OK, CaseResult
from visionbench.registry import ConfigError
from visionbench.results import summary
from visionbench.results.archive import Run, choose

IDENTITY = ("model", "device", "device_name", "precision")


@dataclass(frozen=True)
class Ratio:
    """A value ÷ the baseline's, with bounds where both have an interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Relative:
    """A case beside the same batch size of its baseline; a ratio is None where either has no number."""

    run: Run
    baseline: Run
    row: CaseResult
    throughput: Ratio | None
    latency: Ratio | None
    across: bool
    """Whether the latency's bounds come from intervals across processes on both sides."""


def relative(runs: Sequence[Run], wanted: Mapping[str, str]) -> list[Relative]:
    """Every other run's cases beside those of its baseline. Raises ConfigError where `wanted` names no run, or several
    that fit a run equally."""
    told = ",".join(f"{name}={value}" for name, value in wanted.items())
    bases = choose(runs, wanted)
    if not bases:
        there = "; ".join(sorted({run.name for run in runs}))
        raise ConfigError(f"--baseline {told}: no run of the sweep is that", f"there are: {there}")
    return [
        pair
        for run in runs
        if run not in bases and (base := _baseline(run, bases, wanted, told)) is not None
        for pair in _pairs(run, base)
    ]


def _baseline(run: Run, bases: Sequence[Run], wanted: Mapping[str, str], told: str) -> Run | None:
    """Of the candidates, the one that differs least from the run beyond what was asked for."""
    if len(bases) == 1:
        return bases[0]
    free = [name for name in IDENTITY if name not in wanted]
    alike = [base for base in bases if all(base.facts()[name] == run.facts()[name] for name in free)]
    if len(alike) > 1:
        raise ConfigError(
            f"--baseline {told}: {len(alike)} runs fit {run.name}", "name more, as in sweep=… or protocol=…"
        )
    return alike[0] if alike else None


def _pairs(run: Run, base: Run) -> Iterator[Relative]:
    of_base = {row.case.batch_size: row for row in base.timed if row.status == OK}
    throughput = summary.throughput_name(run.timed)
    across = bool(run.record.repeats and base.record.repeats)
    ends = summary.latency_ends(across)
    for row in run.timed:
        other = of_base.get(row.case.batch_size)
        if row.status == OK and other is not None:
            latency = _ratio(row, other, summary.LATENCY, ends)
            yield Relative(run, base, row, _ratio(row, other, throughput, None), latency, across)


def _ratio(row: CaseResult, base: CaseResult, name: str, ends: tuple[str, str] | None) -> Ratio | None:
    """The quotient; its bounds are those of the quotient of the two intervals, wider than an interval of the ratio."""
    mine, theirs = row.metrics.values.get(name), base.metrics.values.get(name)
    if mine is None or not theirs:
        return None
    if ends is None:
        return Ratio(mine / theirs)
    low, high, base_low, base_high = (one.metrics.values.get(end) for one in (row, base) for end in ends)
    if low is None or high is None or not base_low or not base_high:
        return Ratio(mine / theirs)
    return Ratio(mine / theirs, low / base_high, high / base_low)
