"""Warm-up: calls until their times are steady, so that later windows have no compilation, clock ramp or cold cache."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from visionbench.core import Samples
from visionbench.stages.context import Context
from visionbench.stages.windows import activity, quiet


def run(context: Context) -> Samples:
    """Return the series `warmup/host_s`, and the flag `warmup_unstable` if times were not steady at the time limit.

    On a device without a queue also the series of `windows.activity`. With a queue, the first calls may be long because
    kernels are compiled or loaded, which cannot be distinguished from a pause.
    """
    rule = context.measure.warmup
    ratio = rule.max_ratio[context.device.kind]
    calls, seconds = context.calls(), list[float]()
    with quiet():
        end_activity = None if context.device.queued else activity(context, "warmup")
        start = perf_counter()
        while rule.calls is None or len(seconds) < rule.calls:
            elapsed = perf_counter() - start
            enough = len(seconds) >= rule.min_calls and elapsed >= rule.min_seconds
            if (
                rule.calls is None
                and seconds
                and (elapsed >= rule.max_seconds or (enough and _is_steady(seconds, context)))
            ):
                break
            seconds.append(context.device.time_call(next(calls)).host_s)
        active = end_activity() if end_activity else Samples()
    flags = {}
    if rule.calls is None and not _is_steady(seconds, context):
        flags["warmup_unstable"] = f"medians still differed by over {ratio - 1:.0%} after {sum(seconds):.1f} s"
    return Samples({"warmup/host_s": np.array(seconds)}, flags=flags).merged(active)


def _is_steady(seconds: list[float], context: Context) -> bool:
    """Return whether the medians of the last windows differ by at most the ratio for the kind of device.

    Each window has at least `window_calls` calls and `window_seconds` seconds.
    """
    rule = context.measure.warmup
    medians = []
    end = len(seconds)
    for _ in range(rule.windows):
        begin, length = end, 0.0
        while begin > 0 and (end - begin < rule.window_calls or length < rule.window_seconds):
            begin -= 1
            length += seconds[begin]
        if end - begin < rule.window_calls or length < rule.window_seconds:
            return False
        medians.append(float(np.median(seconds[begin:end])))
        end = begin
    return max(medians) / min(medians) <= rule.max_ratio[context.device.kind]
