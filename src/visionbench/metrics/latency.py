"""Latency of a call: mean, spread and percentiles, and the median with its interval, per batch and per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from visionbench.core import (
    ACROSS_PROCESSES,
    LARGEST,
    LOWER,
    SMALLEST,
    SPEED,
    WITHIN_PROCESS,
    MetricDeclaration,
    Metrics,
    Samples,
)
from visionbench.registry import register
from visionbench.statistics.timings import (
    autocorrelation,
    halves_ratio,
    interval_ranks,
    least_samples,
    outliers,
    quantile_interval,
)

PERCENTILES = (10, 50, 90, 95, 99)


def _latency(name: str, meaning: str, **fields: Any) -> MetricDeclaration:
    return MetricDeclaration(f"latency_{name}_ms", "ms", meaning, LOWER, SPEED, **fields)


@register("metrics", "latency")
@dataclass
class Latency:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "latency")

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _latency("mean", "Mean of the single calls, one batch each"),
        _latency("std", "Standard deviation of the single calls"),
        _latency("min", "Fastest call", gather=SMALLEST),
        _latency("max", "Slowest call", gather=LARGEST),
        _latency(
            "p50",
            "Median; null if the calls are too few for an interval",
            title="p50 ms",
            table=True,
            order=10,
            compared=True,
            intervals=(WITHIN_PROCESS, ACROSS_PROCESSES),
        ),
        _latency("p95", "95th percentile; null if the calls are too few", title="p95 ms", table=True, order=11),
        _latency("{p10,p90,p99}", "Percentiles; null if the calls are too few for an interval"),
        _latency("per_image_{mean,std}", "Mean and standard deviation, divided by the images of a batch"),
        _latency("per_image_min", "Fastest call, divided by the images of a batch", gather=SMALLEST),
        _latency("per_image_max", "Slowest call, divided by the images of a batch", gather=LARGEST),
        _latency("per_image_p50", "Median, divided by the images of a batch", intervals=(WITHIN_PROCESS,)),
        _latency("per_image_{p10,p90,p95,p99}", "Percentiles, divided by the images of a batch"),
        _latency("device_p50", "Median span on the device, by events; on a GPU"),
        _latency("enqueue_p50", "Median time until a call returns to the host; on a GPU"),
        MetricDeclaration("latency_calls_count", "count", "Calls that were timed"),
        MetricDeclaration(
            "latency_outliers_{mild,far}_count",
            "count",
            "Calls beyond Tukey's fences, 1.5 and 3 interquartile ranges",
        ),
        MetricDeclaration("latency_autocorrelation_ratio", "ratio", "Correlation of neighbouring calls"),
        MetricDeclaration("latency_halves_ratio", "ratio", "Larger median of the two halves ÷ the smaller one: drift"),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute milliseconds from `latency/host_s` and, on a GPU, `latency/device_s` and `latency/enqueue_s`.

        A percentile is None if the samples are too few for its 95 % interval within the process.
        """
        host = samples.get("latency/host_s") * 1e3
        names = [f"latency_{name}_ms" for name in ("mean", "std", "min", "max")]
        if not len(host):
            absent = [*names, "latency_p50_ms"]
            return Metrics(dict.fromkeys(absent), dict.fromkeys(absent, samples.why_missing("latency/host_s")))
        metrics = distribution(host)
        if len(images := samples.get("work/images_count")):
            metrics = metrics.merged(per_image(metrics, float(images[0])))
        return metrics.merged(steadiness(host)).merged(device_side(samples))


def distribution(host: np.ndarray) -> Metrics:
    """Compute mean, spread, extremes and percentiles of single calls in ms, and the interval of the median."""
    values: dict[str, float | None] = {
        "latency_mean_ms": float(host.mean()),
        "latency_std_ms": float(host.std(ddof=1)) if len(host) > 1 else None,
        "latency_min_ms": float(host.min()),
        "latency_max_ms": float(host.max()),
    }
    reasons = {} if len(host) > 1 else {"latency_std_ms": "one call has no spread"}
    for percent in PERCENTILES:
        name = f"latency_p{percent}_ms"
        values[name] = float(np.quantile(host, percent / 100)) if interval_ranks(len(host), percent / 100) else None
        if values[name] is None:
            reasons[name] = f"{len(host)} calls, and p{percent} needs {least_samples(percent / 100)}"
    interval = quantile_interval(host, 0.5)
    ends = ("latency_p50_within_process_low_ms", "latency_p50_within_process_high_ms")
    for name, end in zip(ends, interval or (None, None), strict=True):
        values[name] = end
        if end is None:
            reasons[name] = reasons["latency_p50_ms"]
    return Metrics(values, reasons)


def per_image(metrics: Metrics, images: float) -> Metrics:
    """Return the same numbers divided by the images of a batch."""

    def renamed(name: str) -> str:
        return name.replace("latency_", "latency_per_image_")

    return Metrics(
        {renamed(name): None if value is None else value / images for name, value in metrics.values.items()},
        {renamed(name): reason for name, reason in metrics.reasons.items()},
    )


def steadiness(host: np.ndarray) -> Metrics:
    """Count the calls and the calls beyond Tukey's fences, and compute whether the calls drift."""
    mild, far = outliers(host)
    values = {
        "latency_calls_count": float(len(host)),
        "latency_outliers_mild_count": float(mild),
        "latency_outliers_far_count": float(far),
        "latency_autocorrelation_ratio": autocorrelation(host),
        "latency_halves_ratio": halves_ratio(host) if len(host) > 1 else None,
    }
    return Metrics(values, {} if len(host) > 1 else {"latency_halves_ratio": "one call has no halves"})


def device_side(samples: Samples) -> Metrics:
    """Compute the median span on the device and the median time to enqueue a call in ms, if the device has a queue.

    A call that reads a value back (`generate` does at each token) returns late even if the device is not busy. The two
    medians therefore do not show the limit of such a call; `metrics=[kernels]` does.
    """
    values: dict[str, float | None] = {}
    reasons = {}
    for name, series in (("latency_device_p50_ms", "device_s"), ("latency_enqueue_p50_ms", "enqueue_s")):
        seconds = samples.get(f"latency/{series}")
        values[name] = float(np.median(seconds)) * 1e3 if len(seconds) else None
        if not len(seconds):
            reasons[name] = samples.why_missing(f"latency/{series}")
    return Metrics(values, reasons)
