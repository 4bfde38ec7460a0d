"""Memory: peaks of a few calls, in a separate window with one batch of inputs on the device."""

from __future__ import annotations

from itertools import islice

from visionbench.core import Samples
from visionbench.stages.context import Context
from visionbench.stages.windows import quiet


def run(context: Context) -> Samples:
    """Return the device's series `memory/…_bytes`."""
    with quiet():
        context.device.reset_peak_memory()
        for call in islice(context.calls(), context.measure.memory.calls):
            call()
        context.device.synchronize()
        return context.device.peak_memory(context.kept_bytes)
