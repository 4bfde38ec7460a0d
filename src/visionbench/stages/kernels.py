"""Kernels: one profiled call of each batch size, in a separate process that times nothing.

A profiler can slow launches for the rest of its process (on an H100 from 6.8 to 8.3 µs). A process that times calls
therefore never runs a profiler; it receives the samples of the profiling process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from visionbench.core import Device, Samples
from visionbench.stages.context import Context
from visionbench.stages.windows import quiet


def profile(device: Device, call: Callable[[], object]) -> Samples:
    """Return the series `kernels/busy_s`, `launched_count` and `host_waits_count` of a call; see `core.Device`."""
    with quiet():
        call()  # selects kernels and fills caches
        return device.profile(call)


def run(profiled: Mapping[str, Samples], context: Context) -> Samples:
    """Return the samples of the profiling process for this case, or the reason why there are none.

    `profiled` holds the samples by the case's id. The reason for a device without a queue comes from the device.
    """
    if not context.device.queued:
        return context.device.profile(lambda: None)
    no_result = Samples(missing={"kernels/busy_s": "the profiling process gave no result; see worker.log"})
    return profiled.get(context.case.id, no_result)
