"""Kernels: one profiled call of each batch size, in a process that times nothing.

A profiler may slow launches for as long as its process lives (on an H100 6.8 µs before it, 8.3 µs after), so a process
that times calls never runs one: it is given what the profiling process saw.
"""

from __future__ import annotations

from collections.abc import Callable

from visionbench.core import Device, Samples
from visionbench.stages.context import Context, quiet

SEEN = "kernels/seen"
"""The key of `Context.once` with the samples of the profiling process, by the case's id."""


def profile(device: Device, call: Callable[[], object]) -> Samples:
    """Series `kernels/busy_s`, `launched_count` and `host_waits_count` of a call, see `core.Device.profile`."""
    with quiet():
        call()  # kernels are chosen and caches filled
        return device.profile(call)


def run(context: Context) -> Samples:
    """What the profiling process saw of this case; on a device without a queue the reason why there is nothing."""
    seen: dict[str, Samples] = context.once.get(SEEN, {})
    if context.device.queued:
        lost = "the profiling process gave no result; see worker.log"
        return seen.get(context.case.id, Samples(missing={"kernels/busy_s": lost}))
    return context.device.profile(lambda: None)
