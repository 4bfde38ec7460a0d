"""Kernels: one profiled call, after all timed windows of the case, which the profiler would slow."""

from __future__ import annotations

from visionbench.core import Samples
from visionbench.stages.context import Context, quiet


def run(context: Context) -> Samples:
    """Series `kernels/busy_s`, `launched_count` and `host_waits_count` of one call, see `core.Device.profile`."""
    call = next(context.calls())
    with quiet():
        call()  # the case's earlier stages have let go of other batches' kernels and caches
        return context.device.profile(call)
