"""Timed windows: blocks without gradients and garbage collection, whose disturbances are recorded."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from visionbench.core import Samples
from visionbench.machine import Activity, Noise
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


def activity(context: Context, name: str) -> Callable[[], Samples]:
    """Begin a window. The result ends the window, and returns the readings from which a pause is detected.

    Series `<name>/thread_idle_s` (the measuring thread neither ran nor waited for a core), `<name>/suspended_s` (the
    machine was suspended) and, for a device without a queue, `<name>/process_stopped_s` (no thread of the process ran,
    at least).
    """
    queued = context.device.queued
    before = Activity.now(this_thread_only=queued)

    def end() -> Samples:
        after = Activity.now(this_thread_only=queued)
        idle, stopped = after.idle_since(before), None if queued else after.stopped_since(before)
        values = {
            "thread_idle_s": idle,
            "process_stopped_s": stopped,
            "suspended_s": after.suspended_s - before.suspended_s,
        }
        return Samples({f"{name}/{key}": np.array([value]) for key, value in values.items() if value is not None})

    return end


@dataclass
class TimedWindow:
    """A timed window. `disturbances` is filled when the window ends."""

    disturbances: Samples = field(default_factory=Samples)


@contextmanager
def watched(context: Context, name: str) -> Iterator[TimedWindow]:
    """Run a block in a quiet window, and record its disturbances.

    Series `<name>/run_delay_fraction`, `involuntary_switches_per_s`, `steal_fraction` and `load_count`, and those of
    `activity`; the flags and faults of the device; the fault `recompiled`. All readings are before and after the
    window.
    """
    import torch

    window = TimedWindow()
    feeds_queue = context.device.queued  # the device then waits only for the thread that launches its work
    with quiet():
        end_watch = context.device.watch()
        compiled, before = _compilations(), Noise.now(this_thread_only=feeds_queue)
        end_activity = activity(context, name)
        yield window
        active = end_activity()
        noise = Noise.now(this_thread_only=feeds_queue).since(before, 1 if feeds_queue else torch.get_num_threads())
        compiled = _compilations() - compiled
        window.disturbances = end_watch()
    series = {f"{name}/{key}": np.array([value]) for key, value in noise.items() if value is not None}
    missing = {f"{name}/{key}": "this kernel does not report it" for key, value in noise.items() if value is None}
    faults = {"recompiled": f"torch compiled {compiled} times within the {name} window"} if compiled else {}
    window.disturbances = window.disturbances.merged(Samples(series, missing, faults=faults)).merged(active)


def _compilations() -> int:
    """Return the number of graphs that torch has compiled so far, without importing its compiler."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo else 0
