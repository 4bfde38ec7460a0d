"""Memory: peaks of a few calls, in a window of their own with one batch of inputs on the device."""

from __future__ import annotations

from itertools import islice

from visionbench.core import Samples
from visionbench.stages.context import Context, quiet


def run(context: Context) -> Samples:
    """The device's series `memory/…_bytes`. The case's other batches are let go first: no later stage calls them."""
    del context.batches[1:]
    with quiet():
        context.device.reset_peak_memory()
        for call in islice(context.calls(), context.measure.memory.calls):
            call()
        context.device.synchronize()
        return context.device.peak_memory(context.kept_bytes)
