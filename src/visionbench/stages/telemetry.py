"""Telemetry: consecutive calls while energy is metered and utilisation is sampled, after a short idle window.

The reported throughput is not from this window, because the sampler may slow the calls.
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
from visionbench.stages.context import Call, Context
from visionbench.stages.windows import activity, quiet

LEAST_ENERGY_S = 10.0
"""The length of a window in which the steps of an energy counter are small enough."""

NOT_BUSY = {"idle", "iowait", "guest", "guest_nice"}
"""The clocks of a machine that busy time leaves out. The time of guests is also part of the user time."""


def run(context: Context) -> Samples:
    """Return the energy and the readings of both windows.

    Series `telemetry/idle_energy_j` and `idle_s` of the idle window; `energy_j`, `seconds_s`, `completed_s` and the
    series of `Sampler` and of `activity` of the busy window. Flag `energy_window_short` if energy was metered for less
    than ten seconds.
    """
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
        end_idle = device.meter()
        start = perf_counter()
        sleep(rule.idle_seconds)
        idle_energy, idle_s = end_idle(), perf_counter() - start
        with Sampler(device, rule.interval_ms / 1e3, device.probe_lag_s) as sampler:
            end_busy = device.meter()
            end_activity = activity(context, "telemetry")
            start = perf_counter()
            completed = device.back_to_back(issue(), context.measure.throughput.in_flight)
            energy, seconds = end_busy(), perf_counter() - start
            active = end_activity()
    series = {
        **{name.replace("/energy", "/idle_energy"): value for name, value in idle_energy.series.items()},
        "telemetry/idle_s": np.array([idle_s]),
        "telemetry/seconds_s": np.array([seconds]),
        "telemetry/completed_s": np.array(completed),
    }
    short = len(energy.get("telemetry/energy_j")) and seconds < LEAST_ENERGY_S
    flags = {"energy_window_short": f"{seconds:.1f} s, shorter than {LEAST_ENERGY_S:g} s"} if short else {}
    return Samples(series, flags=flags).merged(energy).merged(sampler.samples()).merged(active)


class Sampler:
    """Samples the load of host and device at an interval in seconds, in a separate thread.

    Series `telemetry/process_cpu_fraction` (of the usable cores) and `machine_cpu_fraction` (of all cores), each over
    the time since the last reading, and the readings of the device's `probe`. `lag_s` is the longest time that a
    reading averages over: readings in the first `lag_s` seconds are dropped, because they include time before the
    window.
    """

    def __init__(self, device: Device, interval_s: float, lag_s: float = 0.0) -> None:
        import psutil

        self._device, self._interval_s, self._lag_s = device, interval_s, lag_s
        self._process = psutil.Process(os.getpid())
        self._readings: dict[str, list[float]] = {}
        self._over = Event()
        self._thread = Thread(target=self._sample, name="telemetry", daemon=True)

    def __enter__(self) -> Sampler:
        self._device.probe()  # dropped: some values are means since the last reading, which was in another window
        self._last = self._clocks()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def samples(self) -> Samples:
        """Return the readings so far."""
        return Samples({name: np.array(values) for name, values in self._readings.items()})

    def read(self) -> None:
        """Take one reading."""
        now = self._clocks()
        wall, process, busy, total = (new - old for new, old in zip(now, self._last, strict=True))
        self._last = now
        reading = dict(self._device.probe())
        if wall > 0 and total > 0:
            reading["telemetry/process_cpu_fraction"] = process / (wall * usable_cores())
            reading["telemetry/machine_cpu_fraction"] = busy / total
        for name, value in reading.items():
            self._readings.setdefault(name, []).append(value)

    def _sample(self) -> None:
        wait_s = self._lag_s
        while not self._over.wait(wait_s or self._interval_s):
            if wait_s:  # drop this reading, which includes time before the window, and start from here
                self._device.probe()
                self._last, wait_s = self._clocks(), 0.0
            else:
                self.read()

    def _clocks(self) -> tuple[float, float, float, float]:
        """Return wall seconds, CPU seconds of the process, and busy and all CPU seconds of the machine."""
        import psutil

        machine = psutil.cpu_times()
        process = self._process.cpu_times()
        counted = machine._asdict().items()
        busy = sum(value for name, value in counted if name not in NOT_BUSY)
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        return perf_counter(), process.user + process.system, busy, busy + idle
