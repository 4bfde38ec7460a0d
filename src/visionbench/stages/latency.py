"""Latency: one call at a time, synchronised before and after each, until the median is known well enough."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from visionbench.core import CallTiming, Samples
from visionbench.stages.context import Context, watched
from visionbench.statistics.timings import least_samples, quantile_interval

CHECK_EVERY = 1.3
"""The interval is looked at when the number of calls has grown by this factor."""


def run(context: Context) -> Samples:
    """Series `latency/host_s`, `latency/device_s`, `latency/enqueue_s` (a GPU's), and what disturbed the window."""
    rule = context.measure.latency
    calls, taken = context.calls(), list[CallTiming]()
    check_at = 0.0
    with watched(context, "latency") as window:
        start = perf_counter()
        while rule.calls is None or len(taken) < rule.calls:
            elapsed = perf_counter() - start
            if rule.calls is None and len(taken) >= rule.least_calls:
                if elapsed >= rule.max_seconds:
                    break
                if len(taken) >= max(check_at, rule.min_calls) and elapsed >= rule.min_seconds:
                    if _doubt(taken, context) is None:
                        break
                    check_at = len(taken) * CHECK_EVERY
            taken.append(context.device.time_call(next(calls)))
    samples = _series(taken, context).merged(window.seen)
    if rule.calls is None and (doubt := _doubt(taken, context)):
        samples = samples.merged(Samples(flags={"not_converged": doubt}))
    return samples


def _doubt(taken: Sequence[CallTiming], context: Context) -> str | None:
    """What keeps these calls from telling the median and the percentile that is asked for; None if nothing."""
    rule = context.measure.latency
    host = np.array([timing.host_s for timing in taken])
    interval = quantile_interval(host, 0.5)
    if interval is None:
        return f"{len(taken)} calls are too few for an interval of the median"
    within = rule.median_within[context.device.kind]
    width = (interval[1] - interval[0]) / 2 / float(np.median(host))
    if width > within:
        return f"the median is known to ±{width:.1%}, not ±{within:.0%}, after {len(taken)} calls"
    if len(taken) < least_samples(rule.percentile):
        return f"{len(taken)} calls are too few for p{rule.percentile * 100:g} ({least_samples(rule.percentile)})"
    return None


def _series(taken: Sequence[CallTiming], context: Context) -> Samples:
    series = {"latency/host_s": np.array([timing.host_s for timing in taken])}
    missing = {}
    for name in ("device_s", "enqueue_s"):
        values = [getattr(timing, name) for timing in taken]
        if None in values:
            missing[f"latency/{name}"] = f"{context.device.id} has no queue: a call returns when it is done"
        else:
            series[f"latency/{name}"] = np.array(values)
    return Samples(series, missing)
