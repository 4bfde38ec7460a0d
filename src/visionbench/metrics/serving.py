"""Serving: latency, goodput and batches of each load, and the largest load within the bound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from visionbench.core import (
    BETWEEN_LOADS,
    HIGHER,
    LOAD,
    LOWER,
    OVER_QUERIES,
    SPEED,
    MetricDeclaration,
    Metrics,
    Samples,
    interval_ends,
)
from visionbench.registry import register
from visionbench.serving.search import share_within

PERCENTILES = (90, 95, 99)
"""The percentiles that are null with fewer queries than MLPerf requires."""
Z_99 = 2.5758293035489004
"""The 99.5 % quantile of the normal distribution, for an interval of 99 %."""
MARGIN = 20
"""The margin of MLPerf's count of queries is (1 − percentile) ÷ 20."""
CONFIDENCE = 0.99
"""The confidence of the upper bound of a percentile."""
LATENCIES = ("serving_mean_ms", "serving_p50_ms", *(f"serving_p{percent}_ms" for percent in PERCENTILES))
UPPER = tuple(f"serving_p{percent}_upper_ms" for percent in PERCENTILES)
WITHIN, GOODPUT = "serving_within_fraction", "serving_goodput_per_s"
LARGEST = "serving_largest_load_per_s"


def _load(name: str, unit: str, meaning: str, **fields: Any) -> MetricDeclaration:
    return MetricDeclaration(f"serving_{name}", unit, meaning, axis=LOAD, **fields)


def _latency(name: str, meaning: str, **fields: Any) -> MetricDeclaration:
    return _load(f"{name}_ms", "ms", meaning, better=LOWER, kind=SPEED, table=True, **fields)


@register("metrics", "serving")
@dataclass
class Serving:
    """No options. The load is configured in the section `serving`."""

    stages: ClassVar[tuple[str, ...]] = ("serving",)

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _latency("mean", "Mean latency of the queries of a load, from their scheduled time", title="mean ms", order=60),
        _latency("p50", "Median of these latencies", title="p50 ms", order=61),
        _latency(
            "{p90,p95,p99}",
            "Percentiles of these latencies; null with fewer queries than MLPerf requires",
            title="{0} ms",
            order=62,
        ),
        _latency(
            "{p90,p95,p99}_upper",
            "MLPerf's early-stopping estimate: an upper bound of the percentile that the run limits, with 99 % "
            "confidence, if queries are independent",
            title="{0} ≤ ms",
            order=63,
        ),
        _load(
            "within_fraction",
            "fraction",
            "Queries that were answered within the bound",
            title="within bound",
            better=HIGHER,
            kind=SPEED,
            table=True,
            order=64,
            intervals=(OVER_QUERIES,),
        ),
        _load(
            "goodput_per_s",
            "1/s",
            "Queries within the bound, per second",
            title="goodput/s",
            better=HIGHER,
            kind=SPEED,
            table=True,
            order=65,
        ),
        _load(
            "answered_per_s",
            "1/s",
            "Queries that were answered, per second",
            title="answered/s",
            better=HIGHER,
            kind=SPEED,
            table=True,
            order=66,
        ),
        _load("batch_mean_count", "count", "Mean size of the batches", title="mean batch", table=True, order=67),
        _load(
            "utilization_fraction",
            "fraction",
            "Share of the window in which a batch was executed",
            title="utilization",
            table=True,
            order=68,
        ),
        _load("queries_count", "count", "Queries that were counted", title="queries", table=True, order=69),
        _load("unanswered_count", "count", "Counted queries that were never answered"),
        _load("batch_<k>_fraction", "fraction", "Share of the batches with this size"),
        _load("lateness_p99_ms", "ms", "99th percentile of the time from the schedule of a query to its sending"),
        MetricDeclaration(
            LARGEST,
            "1/s",
            "Largest load that was measured and is within the bound",
            HIGHER,
            SPEED,
            title="largest load/s",
            table=True,
            order=59,
            intervals=(BETWEEN_LOADS,),
        ),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute the figures of a load from `serving/…`, or the largest load from `serving_search/…`."""
        if len(samples.get("serving/scheduled_s")):
            return _figures_of_load(samples)
        return _figures_of_search(samples)


def required_queries(percent: int) -> int:
    """Return MLPerf's count of queries for a percentile: z² · p(1 − p) ÷ margin², with z for 99 %, rounded.

    It is 23,886 for p90, 50,425 for p95 and 262,742 for p99.
    """
    p = percent / 100
    return round(Z_99**2 * p * (1 - p) / ((1 - p) / MARGIN) ** 2)


@lru_cache(maxsize=1024)
def upper_bound_rank(queries: int, percent: int) -> int | None:
    """Return t so that the t-th largest latency is an upper bound of the percentile, or None if there is none.

    t is the largest number for which a count of queries beyond the percentile of at most t, of independent queries, has
    a probability of at most 1 − `CONFIDENCE`. This is the rule of MLPerf's early stopping without a tolerance.
    """
    from scipy.stats import binom

    beyond = binom(queries, 1 - percent / 100)
    rank = int(beyond.ppf(1 - CONFIDENCE))
    while rank >= 1 and beyond.cdf(rank) > 1 - CONFIDENCE:
        rank -= 1
    return rank if rank >= 1 else None


def _figures_of_load(samples: Samples) -> Metrics:
    scheduled, completed = samples.get("serving/scheduled_s"), samples.get("serving/completed_s")
    latency = completed - scheduled
    sizes = samples.get("serving/batch_size_count").astype(int)
    window_s = float(samples.get("serving/window_s")[0])
    late = samples.get("serving/issued_s") - scheduled
    values: dict[str, float | None] = {
        "serving_answered_per_s": float(samples.get("serving/answered_count")[0]) / window_s,
        "serving_batch_mean_count": float(sizes.mean()),
        "serving_utilization_fraction": float(samples.get("serving/utilization_fraction")[0]),
        "serving_queries_count": float(len(latency)),
        "serving_unanswered_count": float(np.isnan(latency).sum()),
        "serving_lateness_p99_ms": float(np.nanquantile(late, 0.99)) * 1e3,
        **{f"serving_batch_{size}_fraction": float((sizes == size).mean()) for size in np.unique(sizes)},
    }
    reason, names = _why_no_latency(samples, latency), list[str]()
    if reason:
        names += [*LATENCIES, *UPPER]
        latencies = Metrics()
    else:
        latencies = _latencies(latency * 1e3, samples)
    if samples.get("serving/queue_grows_count")[0] or samples.get("serving/queue_unsettled_count").any():
        names += [WITHIN, *interval_ends(WITHIN), GOODPUT]
    else:
        bound_s = float(samples.get("serving/bound_s")[0])
        share = share_within(latency, bound_s)
        low, high = interval_ends(WITHIN)
        values |= {WITHIN: share.value, low: share.low, high: share.high}
        values[GOODPUT] = float((latency <= bound_s).sum()) / float(scheduled[-1] - scheduled[0] or window_s)
    values |= dict.fromkeys(names)
    return Metrics(values, dict.fromkeys(names, reason)).merged(latencies)


def _why_no_latency(samples: Samples, latency: np.ndarray) -> str:
    if samples.get("serving/queue_grows_count")[0]:
        return "the queue grew during the complete window, so it depends on the length of the window"
    if samples.get("serving/queue_unsettled_count").any():
        return "the queue did not settle, so it depends on the length of the window"
    if unanswered := int(np.isnan(latency).sum()):
        return f"{unanswered} queries were not answered"
    return ""


def _latencies(latency_ms: np.ndarray, samples: Samples) -> Metrics:
    """Return mean, median, percentiles, and the upper bound of the percentile that the run limits."""
    values: dict[str, float | None] = {
        "serving_mean_ms": float(latency_ms.mean()),
        "serving_p50_ms": float(np.median(latency_ms)),
    }
    reasons = {}
    ordered = np.sort(latency_ms)
    bounded = round(float(samples.get("serving/bound_fraction")[0]) * 100)
    for percent in PERCENTILES:
        name, upper = f"serving_p{percent}_ms", f"serving_p{percent}_upper_ms"
        enough = len(ordered) >= required_queries(percent)
        values[name] = float(np.quantile(ordered, percent / 100)) if enough else None
        if not enough:
            reasons[name] = f"{len(ordered):,} queries, and p{percent} needs {required_queries(percent):,}"
        if percent == bounded:
            rank = upper_bound_rank(len(ordered), percent)
            values[upper] = None if rank is None else float(ordered[len(ordered) - rank])
            if rank is None:
                reasons[upper] = f"{len(ordered):,} queries are too few"
        else:
            values[upper], reasons[upper] = None, f"the run limits p{bounded}"
    return Metrics(values, reasons)


def _figures_of_search(samples: Samples) -> Metrics:
    names = (LARGEST, *interval_ends(LARGEST))
    values: dict[str, float | None] = {}
    reasons = {}
    for name, series in zip(names, ("low_per_s", "low_per_s", "high_per_s"), strict=True):
        load = samples.get(f"serving_search/{series}")
        values[name] = float(load[0]) if len(load) else None
        if not len(load):
            reasons[name] = samples.why_missing(f"serving_search/{series}")
    return Metrics(values, reasons)
