"""Throughput: calls issued back to back with a limited number in flight, and one synchronisation at the end."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import numpy as np

from visionbench.core import Samples
from visionbench.stages.context import Call, Context
from visionbench.stages.windows import watched


def run(context: Context) -> Samples:
    """Return the completion times and the disturbances of the window.

    Series `throughput/completed_s`: the seconds from the start of the window to the completion of each call.
    """

    def issue() -> Iterator[Call]:
        rule = context.measure.throughput
        start = perf_counter()
        for issued, call in enumerate(context.calls()):
            if rule.calls is not None:
                if issued >= rule.calls:
                    return
            elif issued >= rule.min_calls and perf_counter() - start >= rule.min_seconds:
                return
            yield call

    with watched(context, "throughput") as window:
        completed = context.device.back_to_back(issue(), context.measure.throughput.in_flight)
    return Samples({"throughput/completed_s": np.array(completed)}).merged(window.disturbances)
