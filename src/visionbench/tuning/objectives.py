"""The figure that a search compares, and whether a measurement holds the bounds.

A bound of the latency is held if the upper end of the interval of p95 is within it. It is broken if the lower end is
above it. Otherwise it is open: the calls do not decide it. The peak of the memory has no interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from visionbench.core import INVALID, OK
from visionbench.records.tuning import BROKEN, HELD, OPEN, Figure, Measurement, Quality
from visionbench.tuning.request import LATENCY_P50, LATENCY_P95, THROUGHPUT

TITLES = {
    THROUGHPUT: "throughput",
    LATENCY_P50: "median latency of a call",
    LATENCY_P95: "p95 latency of a call",
}


@dataclass(frozen=True)
class Objective:
    """The figure that a search compares: throughput, or the latency p50 or p95 of a call."""

    name: str = THROUGHPUT

    @property
    def is_throughput(self) -> bool:
        """Whether larger figures are better, and batch sizes are compared."""
        return self.name == THROUGHPUT

    @property
    def title(self) -> str:
        """The name of the figure in a sentence."""
        return TITLES[self.name]

    def figure(self, measurement: Measurement) -> Figure | None:
        """Return the figure, or None if it was not measured."""
        return {
            THROUGHPUT: measurement.throughput,
            LATENCY_P50: measurement.p50,
            LATENCY_P95: measurement.p95,
        }[self.name]

    def score(self, measurement: Measurement) -> Figure | None:
        """Return the figure such that a larger one is better: the throughput, or 1 ÷ latency."""
        figure = self.figure(measurement)
        if figure is None or figure.value <= 0:
            return None
        return figure if self.is_throughput else figure.inverse

    def text(self, figure: Figure | None) -> str:
        """Return the figure with its unit."""
        if figure is None:
            return "–"
        return f"{figure.value:,.4g} /s" if self.is_throughput else f"{figure.value:.4g} ms"


@dataclass(frozen=True)
class Limits:
    """The bounds that the best configuration must hold. None is no bound."""

    latency_p95_ms: float | None = None
    quality: float | None = None
    """The lowest accepted share of the quality of eager fp32."""
    memory_mib: float | None = None

    @classmethod
    def of(cls, bounds: Mapping[str, float]) -> Limits:
        """Return the bounds of a request."""
        return cls(bounds.get("max_latency_p95_ms"), bounds.get("min_quality"), bounds.get("max_memory_mib"))

    def judge(self, measurement: Measurement) -> tuple[str, str]:
        """Return whether the bounds of latency and memory are held, and the reason if they are not."""
        verdicts = [self._latency(measurement), self._memory(measurement)]
        for state in (BROKEN, OPEN):
            for verdict, reason in verdicts:
                if verdict == state:
                    return verdict, reason
        return HELD, ""

    def _latency(self, measurement: Measurement) -> tuple[str, str]:
        bound, p95, p50 = self.latency_p95_ms, measurement.p95, measurement.p50
        if bound is None:
            return HELD, ""
        if p95 is not None and p95.high is not None:
            low, high = p95.ends
            text = f"p95 {p95.value:.4g} ms [{low:.4g}, {high:.4g}]"
            if high <= bound:
                return HELD, ""
            if low > bound:
                return BROKEN, f"{text} is above {bound:g} ms"
            return OPEN, f"the interval of {text} contains {bound:g} ms"
        if p50 is not None and p50.ends[0] > bound:
            return BROKEN, f"p50 {p50.value:.4g} ms is above {bound:g} ms"
        return OPEN, "too few calls for an interval of p95"

    def _memory(self, measurement: Measurement) -> tuple[str, str]:
        bound, peak = self.memory_mib, measurement.peak_mib
        if bound is None:
            return HELD, ""
        if peak is None:
            return OPEN, "the peak of the memory is not known"
        return (BROKEN, f"{peak:,.0f} MiB is above {bound:,.0f} MiB") if peak > bound else (HELD, "")

    def judge_quality(self, quality: Quality, images_differ: bool = True) -> tuple[str, str]:
        """Return whether the bound of quality is held, and the reason if it is not.

        It is held if the lower end of the interval of the ratio is not below the bound, or if the result of each
        image is that of the reference.
        """
        bound, ratio = self.quality, quality.ratio
        if bound is None:
            return HELD, ""
        if ratio is None:
            return OPEN, quality.reason or "the quality is not known"
        if not images_differ:
            return HELD, ""
        low, high = ratio.ends
        text = f"{quality.metric} is {ratio.value:.4f} [{low:.4f}, {high:.4f}] of eager fp32"
        if low >= bound and ratio.low is not None:
            return HELD, ""
        if high < bound or ratio.value < bound:
            return BROKEN, f"{text}, below {bound:g}"
        return OPEN, f"{text}: {bound:g} is not decided; more images decide it"


def with_bounds(measurement: Measurement, limits: Limits) -> Measurement:
    """Return a measurement with the verdict on the bounds of latency and memory."""
    if measurement.status != OK:
        return measurement
    bounds, reason = limits.judge(measurement)
    return replace(measurement, bounds=bounds, bounds_reason=reason)


def can_win(measurement: Measurement, objective: Objective) -> bool:
    """Return whether a measurement has the figure of the objective, is not invalid and does not break a bound."""
    return (
        measurement.status == OK
        and measurement.verdict != INVALID
        and measurement.bounds != BROKEN
        and objective.score(measurement) is not None
    )
