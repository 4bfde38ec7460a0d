"""Telemetry meters energy in a separate window and samples utilisation beside it."""

from threading import Event, current_thread

import psutil
import pytest

from visionbench.config import TelemetryConfig
from visionbench.core import Samples
from visionbench.stages import telemetry
from visionbench.stages.telemetry import Sampler


@pytest.fixture
def context(measured, clock, monkeypatch):
    monkeypatch.setattr(telemetry, "perf_counter", clock)

    def advance(seconds):
        clock.now += seconds

    monkeypatch.setattr(telemetry, "sleep", advance)

    def context(*seconds, **rule):
        case = measured(*seconds)
        case.measure.telemetry = TelemetryConfig(**rule)
        return case

    return context


def test_idle_and_busy_energy_are_metered_in_separate_windows(context):
    case = context(2.0, min_seconds=12.0, idle_seconds=3.0)
    samples = telemetry.run(case)
    assert samples.get("telemetry/completed_s").tolist() == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    assert (samples.get("telemetry/idle_energy_j")[0], samples.get("telemetry/idle_s")[0]) == (300.0, 3.0)
    assert (samples.get("telemetry/energy_j")[0], samples.get("telemetry/seconds_s")[0]) == (1200.0, 12.0)
    assert not samples.flags
    assert case.device.log.index("synchronize") < case.device.log.index("meter")


def test_an_energy_window_under_ten_seconds_is_flagged(context):
    assert telemetry.run(context(1.0, min_seconds=2.0)).flags == {"energy_window_short": "2.0 s, shorter than 10 s"}


def test_without_an_energy_counter_there_is_a_reason_and_no_flag(context):
    case = context(1.0, min_seconds=2.0)
    case.device.meter = lambda: lambda: Samples(missing={"telemetry/energy_j": "no counter"})
    samples = telemetry.run(case)
    assert (samples.missing, samples.flags) == ({"telemetry/energy_j": "no counter"}, {})
    assert not len(samples.get("telemetry/idle_energy_j"))


def test_a_reading_covers_the_time_since_the_last_reading(measured, monkeypatch):
    clocks = iter([(0.0, 1.0, 10.0, 20.0), (2.0, 2.5, 13.0, 24.0), (4.0, 2.5, 14.0, 28.0)])
    monkeypatch.setattr(Sampler, "_clocks", lambda self: next(clocks))
    monkeypatch.setattr(telemetry, "usable_cores", lambda: 3)
    with Sampler(measured().device, interval_s=1000.0) as sampler:
        sampler.read()
        sampler.read()
    samples = sampler.samples()
    assert samples.get("telemetry/process_cpu_fraction").tolist() == [0.25, 0.0]
    assert samples.get("telemetry/machine_cpu_fraction").tolist() == [0.75, 0.25]
    assert samples.get("telemetry/gpu_power_w").tolist() == [100.0, 100.0]


def test_the_first_reading_of_the_device_is_dropped(measured):
    device = measured().device
    powers = iter([1.0, 2.0])
    device.probe = lambda: {"telemetry/gpu_power_w": next(powers)}
    with Sampler(device, interval_s=1000.0) as sampler:
        sampler.read()
    assert sampler.samples().get("telemetry/gpu_power_w").tolist() == [2.0]


def test_the_thread_reads_until_the_window_ends(measured):
    device = measured().device
    threads, repeated = [], Event()

    def probe():
        threads.append(current_thread().name)
        if len(threads) >= 4:
            repeated.set()
        return {}

    device.probe = probe
    with Sampler(device, interval_s=0.001) as sampler:
        assert repeated.wait(60)
    readings = len(threads)
    assert set(threads[1:]) == {"telemetry"}
    assert not sampler._thread.is_alive() and len(threads) == readings


class Over:
    """An event that is set after this number of waits, and records their lengths."""

    def __init__(self, after):
        self.after, self.waits = after, []

    def wait(self, seconds):
        self.waits.append(seconds)
        return len(self.waits) > self.after


def test_readings_that_include_time_before_the_window_are_dropped(measured):
    device = measured().device
    powers = iter([1.0, 2.0, 3.0])
    device.probe = lambda: {"telemetry/gpu_power_w": next(powers)}
    sampler = Sampler(device, interval_s=0.1, lag_s=1.0)
    sampler._over = Over(after=3)
    sampler._sample()
    assert sampler._over.waits == [1.0, 0.1, 0.1, 0.1]
    assert sampler.samples().get("telemetry/gpu_power_w").tolist() == [2.0, 3.0]


def test_a_window_shorter_than_the_interval_has_no_samples(measured):
    with Sampler(measured().device, interval_s=1000.0) as sampler:
        pass
    assert sampler.samples() == Samples()


def test_the_clocks_of_this_machine_advance(measured):
    with Sampler(measured().device, interval_s=1000.0) as sampler:
        before = sampler._clocks()
        sum(range(300_000))
        after = sampler._clocks()
    assert all(new >= old for new, old in zip(after[:3], before[:3], strict=True))  # Linux may reduce its iowait
    assert after[2] <= after[3]


def test_busy_time_does_not_decrease_by_rounding_while_the_machine_is_idle(measured, monkeypatch):
    """0.1 + 0.2 - 0.2 is another number than 0.1: busy time is a sum of its own, and not a difference."""
    machine = psutil.cpu_times()
    idle_hundredths = iter(range(1_000))

    def idle_clocks():
        return machine._replace(idle=machine.idle + next(idle_hundredths) / 100)

    monkeypatch.setattr(psutil, "cpu_times", idle_clocks)
    with Sampler(measured().device, interval_s=1000.0) as sampler:
        assert len({sampler._clocks()[2] for _ in range(900)}) == 1
