"""Timed windows: blocks without gradients and garbage collection, whose disturbances are recorded."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from visionbench.core import Samples
from visionbench.machine import Noise
from visionbench.stages.context import Context


@contextmanager
def quiet() -> Iterator[None]:
    """Run a block without gradients and without garbage collection."""
    import torch

    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


@dataclass
class TimedWindow:
    """A timed window. `disturbances` is filled when the window ends."""

    disturbances: Samples = field(default_factory=Samples)


@contextmanager
def watched(context: Context, name: str) -> Iterator[TimedWindow]:
    """Run a block in a quiet window, and record its disturbances.

    Series `<name>/run_delay_fraction`, `involuntary_switches_per_s`, `steal_fraction` and `load_count`; the flags and
    faults of the device; the fault `recompiled`. All readings are before and after the window.
    """
    import torch

    window = TimedWindow()
    feeds_queue = context.device.queued  # the device then waits only for the thread that launches its work
    with quiet():
        end_watch = context.device.watch()
        compiled, before = _compilations(), Noise.now(this_thread_only=feeds_queue)
        yield window
        noise = Noise.now(this_thread_only=feeds_queue).since(before, 1 if feeds_queue else torch.get_num_threads())
        compiled = _compilations() - compiled
        window.disturbances = end_watch()
    series = {f"{name}/{key}": np.array([value]) for key, value in noise.items() if value is not None}
    missing = {f"{name}/{key}": "this kernel does not report it" for key, value in noise.items() if value is None}
    faults = {"recompiled": f"torch compiled {compiled} times within the {name} window"} if compiled else {}
    window.disturbances = window.disturbances.merged(Samples(series, missing, faults=faults))


def _compilations() -> int:
    """Return the number of graphs that torch has compiled so far, without importing its compiler."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo else 0
