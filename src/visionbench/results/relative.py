"""Results as ratios to a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from visionbench import variation
from visionbench.core import OK, CaseResult, ConfigError
from visionbench.results import summary
from visionbench.results.archive import Run, choose

IDENTITY = ("model", "device", "device_name", "precision", "runtime", "decoder", "preprocess")


@dataclass(frozen=True)
class Ratio:
    """A value ÷ the value of the baseline, with bounds if both have an interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Relative:
    """A case and the same batch size of its baseline. A ratio is None if one of them has no number."""

    run: Run
    baseline: Run
    row: CaseResult
    throughput: Ratio | None
    latency: Ratio | None
    across: bool
    """Whether the bounds of the latency come from intervals across processes."""


def relative(runs: Sequence[Run], baseline: Mapping[str, str]) -> list[Relative]:
    """Return each case of the runs that are no baseline with the same case of its baseline.

    Raises ConfigError if the filter matches no run, or if several baselines match a run equally.
    """
    text = ",".join(f"{name}={value}" for name, value in baseline.items())
    bases = choose(runs, baseline)
    if not bases:
        names = "; ".join(sorted({run.name for run in runs}))
        raise ConfigError(f"--baseline {text}: no run of the sweep matches", f"the runs are: {names}")
    return [
        pair
        for run in runs
        if run not in bases and (base := _baseline(run, bases, baseline, text)) is not None
        for pair in _pairs(run, base)
    ]


def _baseline(run: Run, bases: Sequence[Run], baseline: Mapping[str, str], text: str) -> Run | None:
    """Return the baseline of a run: the candidate that is equal in all facts that the filter does not name."""
    if len(bases) == 1:
        return bases[0]
    unnamed = [name for name in IDENTITY if name not in baseline]
    equal = [base for base in bases if all(base.facts()[name] == run.facts()[name] for name in unnamed)]
    if len(equal) > 1:  # runs of a sweep over another key, such as device.threads
        same = [base for base in equal if not _differing_keys(base, run, baseline)]
        equal = same or equal
    if len(equal) > 1:
        raise ConfigError(
            f"--baseline {text}: {len(equal)} runs match {run.name}", "add a fact, as in sweep=… or protocol=…"
        )
    return equal[0] if equal else None


def _differing_keys(base: Run, run: Run, baseline: Mapping[str, str]) -> list[str]:
    """Return the keys of the configuration that differ and that the filter does not name."""
    differing, _ = variation.differences([base.record.config, run.record.config])
    return [key for key in differing if not any(key in variation.matching_keys(name, differing) for name in baseline)]


def _pairs(run: Run, base: Run) -> Iterator[Relative]:
    base_rows = {row.case.batch_size: row for row in base.timed if row.status == OK}
    throughput = summary.throughput_name(run.timed)
    across = bool(run.record.repeats and base.record.repeats)
    ends = summary.latency_ends(across)
    for row in run.timed:
        base_row = base_rows.get(row.case.batch_size)
        if row.status == OK and base_row is not None:
            latency = _ratio(row, base_row, summary.LATENCY, ends)
            yield Relative(run, base, row, _ratio(row, base_row, throughput, None), latency, across)


def _ratio(row: CaseResult, base: CaseResult, name: str, ends: tuple[str, str] | None) -> Ratio | None:
    """Return the ratio. Its bounds are those of the quotient of both intervals, wider than an interval of the ratio."""
    value, base_value = row.metrics.values.get(name), base.metrics.values.get(name)
    if value is None or not base_value:
        return None
    if ends is None:
        return Ratio(value / base_value)
    low, high, base_low, base_high = (one.metrics.values.get(end) for one in (row, base) for end in ends)
    if low is None or high is None or not base_low or not base_high:
        return Ratio(value / base_value)
    return Ratio(value / base_value, low / base_high, high / base_low)
