"""Warm-up: calls until they are steady, so that later windows hold no compilation, clock ramp or cold cache."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from visionbench.core import Samples
from visionbench.stages.context import Context, quiet


def run(context: Context) -> Samples:
    """Series `warmup/host_s`; flag `warmup_unstable` where the cap came before steadiness."""
    rule = context.measure.warmup
    ratio = rule.max_ratio[context.device.kind]
    calls, taken = context.calls(), list[float]()
    with quiet():
        start = perf_counter()
        while rule.calls is None or len(taken) < rule.calls:
            elapsed = perf_counter() - start
            enough = len(taken) >= rule.min_calls and elapsed >= rule.min_seconds
            if rule.calls is None and taken and (elapsed >= rule.max_seconds or (enough and _steady(taken, context))):
                break
            taken.append(context.device.time_call(next(calls)).host_s)
    flags = {}
    if rule.calls is None and not _steady(taken, context):
        flags["warmup_unstable"] = f"medians still differed by over {ratio - 1:.0%} after {sum(taken):.1f} s"
    return Samples({"warmup/host_s": np.array(taken)}, flags=flags)


def _steady(taken: list[float], context: Context) -> bool:
    """Whether the last windows, each of so many calls and so long, have medians within the ratio."""
    rule = context.measure.warmup
    medians = []
    end = len(taken)
    for _ in range(rule.windows):
        begin, seconds = end, 0.0
        while begin > 0 and (end - begin < rule.window_calls or seconds < rule.window_seconds):
            begin -= 1
            seconds += taken[begin]
        if end - begin < rule.window_calls or seconds < rule.window_seconds:
            return False
        medians.append(float(np.median(taken[begin:end])))
        end = begin
    return max(medians) / min(medians) <= rule.max_ratio[context.device.kind]
