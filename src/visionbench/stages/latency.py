"""Latency: single calls, synchronised before and after each call, until the interval of the median is narrow enough."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from visionbench.core import CallTiming, Samples
from visionbench.stages.context import Context
from visionbench.stages.windows import watched
from visionbench.statistics.timings import least_samples, quantile_interval

CHECK_EVERY = 1.3
"""Convergence is checked again when the number of calls has grown by this factor."""


def run(context: Context) -> Samples:
    """Return the times of the calls, the disturbances of the window, and the flag `not_converged` if it applies.

    Series `latency/host_s` and, for a device with a queue, `latency/device_s` and `latency/enqueue_s`.
    """
    rule = context.measure.latency
    calls, timings = context.calls(), list[CallTiming]()
    check_from = 0.0
    with watched(context, "latency") as window:
        start = perf_counter()
        while rule.calls is None or len(timings) < rule.calls:
            elapsed = perf_counter() - start
            if rule.calls is None and len(timings) >= rule.least_calls:
                if elapsed >= rule.max_seconds:
                    break
                if len(timings) >= max(check_from, rule.min_calls) and elapsed >= rule.min_seconds:
                    if _reason_not_converged(timings, context) is None:
                        break
                    check_from = len(timings) * CHECK_EVERY
            timings.append(context.device.time_call(next(calls)))
    samples = _series(timings, context).merged(window.disturbances)
    if rule.calls is None and (reason := _reason_not_converged(timings, context)):
        samples = samples.merged(Samples(flags={"not_converged": reason}))
    return samples


def _reason_not_converged(timings: Sequence[CallTiming], context: Context) -> str | None:
    """Return why these calls are too few for the median or for the configured percentile, or None if they suffice."""
    rule = context.measure.latency
    host = np.array([timing.host_s for timing in timings])
    interval = quantile_interval(host, 0.5)
    if interval is None:
        return f"{len(timings)} calls are too few for an interval of the median"
    within = rule.median_within[context.device.kind]
    width = (interval[1] - interval[0]) / 2 / float(np.median(host))
    if width > within:
        return f"the median is known to ±{width:.1%}, not ±{within:.0%}, after {len(timings)} calls"
    if len(timings) < least_samples(rule.percentile):
        return f"{len(timings)} calls are too few for p{rule.percentile * 100:g} ({least_samples(rule.percentile)})"
    return None


def _series(timings: Sequence[CallTiming], context: Context) -> Samples:
    series = {"latency/host_s": np.array([timing.host_s for timing in timings])}
    missing = {}
    for name in ("device_s", "enqueue_s"):
        values = [getattr(timing, name) for timing in timings]
        if None in values:
            missing[f"latency/{name}"] = f"{context.device.id} has no queue: a call returns when it is done"
        else:
            series[f"latency/{name}"] = np.array(values)
    return Samples(series, missing)
