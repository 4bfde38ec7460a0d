"""Kernels: the share of a call in which the device is busy, the kernels, and the waits of the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionbench.core import LOWER, MetricDeclaration, Metrics, Samples
from visionbench.registry import register

DIRECT = {
    "kernels_busy_ms": ("kernels/busy_s", 1e3),
    "kernels_launched_count": ("kernels/launched_count", 1.0),
    "kernels_host_waits_count": ("kernels/host_waits_count", 1.0),
}
"""Each metric with its series and the factor of its unit."""


@register("metrics", "kernels")
@dataclass
class Kernels:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "latency", "kernels")

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        MetricDeclaration(
            "kernels_busy_ms", "ms", "Time in which a kernel or a copy ran; overlapping ones count once", LOWER
        ),
        MetricDeclaration(
            "kernels_busy_fraction",
            "fraction",
            "That time ÷ `latency_device_p50_ms`: low if the device waits for the host",
        ),
        MetricDeclaration("kernels_launched_count", "count", "Kernels and copies of a call"),
        MetricDeclaration(
            "kernels_host_waits_count",
            "count",
            "Waits of the host for the device within a call, to read a value back",
        ),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute the busy time, the number of kernels and copies, and the waits of the host from one profiled call.

        The busy fraction is the busy time ÷ the median span of an unprofiled call on the device (`latency/device_s`),
        because the profiler slows the host. If it is low, the device waits for the host to launch kernels.
        """
        values: dict[str, float | None] = {}
        reasons = {}
        for name, (series, scale) in DIRECT.items():
            counted = samples.get(series)
            values[name] = float(counted[0]) * scale if len(counted) else None
            if not len(counted):
                reasons[name] = samples.why_missing(series)
        busy, span, name = samples.get("kernels/busy_s"), samples.get("latency/device_s"), "kernels_busy_fraction"
        values[name] = float(busy[0]) / float(np.median(span)) if len(busy) and len(span) else None
        if values[name] is None:
            reasons[name] = samples.why_missing("latency/device_s" if len(busy) else "kernels/busy_s")
        return Metrics(values, reasons)
