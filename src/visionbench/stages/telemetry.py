"""Telemetry: calls back to back while energy is metered and utilisation sampled, after a while of doing nothing.

A window of its own: the throughput that is reported is measured without a sampler beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from threading import Event, Thread
from time import perf_counter, sleep
from types import TracebackType

import numpy as np

from visionbench.core import Device, Samples
from visionbench.machine import usable_cores
from visionbench.stages.context import Call, Context, quiet

LEAST_ENERGY_S = 10.0
"""Shorter windows are a few steps of an energy counter."""


def run(context: Context) -> Samples:
    """Series `telemetry/idle_energy_j` and `idle_s`, then of the busy window `energy_j`, `seconds_s`, `completed_s` and
    those of `Sampler`. Flag `energy_window_short` where energy was had over less than ten seconds."""
    rule = context.measure.telemetry
    device = context.device

    def issue() -> Iterator[Call]:
        start = perf_counter()
        for issued, call in enumerate(context.calls()):
            if issued and perf_counter() - start >= rule.min_seconds:
                return
            yield call

    with quiet():
        device.synchronize()
        idle = device.meter()
        start = perf_counter()
        sleep(rule.idle_seconds)
        idle_energy, idle_s = idle(), perf_counter() - start
        with Sampler(device, rule.interval_ms / 1e3, device.probe_lag_s) as sampler:
            busy = device.meter()
            start = perf_counter()
            completed = device.back_to_back(issue(), context.measure.throughput.in_flight)
            energy, seconds = busy(), perf_counter() - start
    series = {
        **{name.replace("/energy", "/idle_energy"): value for name, value in idle_energy.series.items()},
        "telemetry/idle_s": np.array([idle_s]),
        "telemetry/seconds_s": np.array([seconds]),
        "telemetry/completed_s": np.array(completed),
    }
    short = len(energy.get("telemetry/energy_j")) and seconds < LEAST_ENERGY_S
    flags = {"energy_window_short": f"{seconds:.1f} s, and {LEAST_ENERGY_S:g} s are wanted"} if short else {}
    return Samples(series, flags=flags).merged(energy).merged(sampler.samples())


class Sampler:
    """Reads from a thread of its own, at an interval in seconds, how hard host and device work: series
    `telemetry/process_cpu_fraction` and `machine_cpu_fraction` (of the usable and of all cores, over the time since the
    last reading) and what the device's `probe` gives. `lag_s` is how far back a reading reaches: so long after the
    start nothing is kept, since it would still hold the time before the window."""

    def __init__(self, device: Device, interval_s: float, lag_s: float = 0.0) -> None:
        import psutil

        self._device, self._interval_s, self._lag_s = device, interval_s, lag_s
        self._process = psutil.Process(os.getpid())
        self._taken: dict[str, list[float]] = {}
        self._over = Event()
        self._thread = Thread(target=self._sample, name="telemetry", daemon=True)

    def __enter__(self) -> Sampler:
        self._device.probe()  # some of it is a mean since the last reading, which lies in another window
        self._last = self._clocks()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def samples(self) -> Samples:
        """What was read so far."""
        return Samples({name: np.array(values) for name, values in self._taken.items()})

    def read(self) -> None:
        """Take one reading."""
        now = self._clocks()
        wall, process, busy, total = (new - old for new, old in zip(now, self._last, strict=True))
        self._last = now
        found = dict(self._device.probe())
        if wall > 0 and total > 0:
            found["telemetry/process_cpu_fraction"] = process / (wall * usable_cores())
            found["telemetry/machine_cpu_fraction"] = busy / total
        for name, value in found.items():
            self._taken.setdefault(name, []).append(value)

    def _sample(self) -> None:
        wait_s = self._lag_s
        while not self._over.wait(wait_s or self._interval_s):
            if wait_s:  # the readings start over: this one reaches back to before the window
                self._device.probe()
                self._last, wait_s = self._clocks(), 0.0
            else:
                self.read()

    def _clocks(self) -> tuple[float, float, float, float]:
        """Wall seconds, CPU seconds of the process, and busy and all CPU seconds of the machine."""
        import psutil

        machine = psutil.cpu_times()
        mine = self._process.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        total = sum(machine[:8]) if len(machine) >= 8 else sum(machine)  # guest time is counted in user time already
        return perf_counter(), mine.user + mine.system, total - idle, total
