"""Latency of one call: mean, spread and percentiles, the median with its interval, per batch and per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionbench.core import Metrics, Samples
from visionbench.registry import register
from visionbench.statistics import autocorrelation, halves_ratio, interval_ranks, least_samples, quantile_interval

PERCENTILES = (50, 90, 95, 99)


@register("metrics", "latency")
@dataclass
class Latency:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "latency")

    def compute(self, samples: Samples) -> Metrics:
        """From `latency/host_s` and, on a GPU, `latency/device_s` and `latency/enqueue_s`; milliseconds.

        A percentile is None where the samples are too few for its 95 % interval, which holds within one process.
        """
        host = samples.get("latency/host_s") * 1e3
        names = [f"latency_{name}_ms" for name in ("mean", "std", "min", "max")]
        if not len(host):
            absent = [*names, "latency_p50_ms"]
            return Metrics(dict.fromkeys(absent), dict.fromkeys(absent, samples.why_missing("latency/host_s")))
        values: dict[str, float | None] = dict(
            zip(names, (host.mean(), host.std(ddof=1) if len(host) > 1 else None, host.min(), host.max()), strict=True)
        )
        reasons = {}
        if len(host) < 2:
            reasons["latency_std_ms"] = "one call has no spread"
        for percent in PERCENTILES:
            name = f"latency_p{percent}_ms"
            if interval_ranks(len(host), percent / 100):
                values[name] = float(np.quantile(host, percent / 100))
            else:
                values[name] = None
                reasons[name] = f"{len(host)} calls, and p{percent} wants {least_samples(percent / 100)}"
        low, high = quantile_interval(host, 0.5) or (None, None)
        values |= {"latency_p50_low_ms": low, "latency_p50_high_ms": high}
        if low is None:
            reasons |= dict.fromkeys(("latency_p50_low_ms", "latency_p50_high_ms"), reasons["latency_p50_ms"])
        images = samples.get("work/images_count")
        per_image = [name for name in values if name.startswith(("latency_mean", "latency_p"))] if len(images) else []
        for name in per_image:
            value = values[name]
            target = name.replace("latency_", "latency_per_image_")
            values[target] = None if value is None else value / float(images[0])
            if name in reasons:
                reasons[target] = reasons[name]
        values |= {
            "latency_calls_count": float(len(host)),
            "latency_autocorrelation_ratio": autocorrelation(host),
            "latency_halves_ratio": halves_ratio(host) if len(host) > 1 else None,
        }
        if len(host) < 2:
            reasons["latency_halves_ratio"] = "one call has no halves"
        for name, series in (("latency_device_p50_ms", "device_s"), ("latency_enqueue_p50_ms", "enqueue_s")):
            taken = samples.get(f"latency/{series}")
            values[name] = float(np.median(taken)) * 1e3 if len(taken) else None
            if not len(taken):
                reasons[name] = samples.why_missing(f"latency/{series}")
        return Metrics(values, reasons)
