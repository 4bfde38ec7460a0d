"""A thread that wakes up late shows a pause, unless the process was busy meanwhile."""

from dataclasses import replace

import pytest

from visionbench.machine import RunDelay
from visionbench.stages import heartbeat
from visionbench.stages.heartbeat import TICK_S, Beat, Heartbeat

START = Beat(clock_s=10.0, cpu_s=5.0, waited_s=1.0, blocks=0)


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    monkeypatch.setattr(heartbeat, "usable_cores", lambda: 4)


def later(seconds, **changes):
    return replace(START, clock_s=START.clock_s + TICK_S + seconds, **changes).paused_since(START)


def test_a_late_reading_without_cpu_time_is_a_pause():
    assert later(40.0) == pytest.approx(40.0)


def test_a_reading_that_is_a_little_late_is_no_pause():
    assert later(0.4) == 0.0


def test_cpu_time_before_the_pause_does_not_shorten_it():
    assert later(40.0, cpu_s=5.0 + 4 * TICK_S) == pytest.approx(40.0)


def test_a_late_reading_is_no_pause_if_other_threads_ran_meanwhile():
    assert later(2.0, cpu_s=7.1) == 0.0


def test_a_late_reading_is_no_pause_if_the_thread_waited_for_a_core():
    assert later(2.0, waited_s=2.9) == 0.0


def test_a_late_reading_is_no_pause_if_the_process_read_from_the_disk():
    assert later(2.0, blocks=100_000) == 0.0


@pytest.mark.parametrize("late_s, waited_s", [([0.0, 0.05, 0.1], [1.0, 1.0, 1.0]), ([0.1, 0.15, 0.0], [1.0, 2.0, 2.0])])
def test_the_wait_for_a_core_is_read_only_after_late_readings(monkeypatch, late_s, waited_s):
    delays, clock = iter([RunDelay(1.0, 0.0), RunDelay(2.0, 0.0)]), [10.0]
    monkeypatch.setattr(RunDelay, "now", lambda this_thread_only: next(delays))
    monkeypatch.setattr(heartbeat, "perf_counter", lambda: clock[0])
    beats = [Beat.now()]
    for late in late_s:
        clock[0] += TICK_S + late
        beats.append(Beat.now(beats[-1]))
    assert [beat.waited_s for beat in beats[1:]] == waited_s


def test_the_reason_has_the_seconds_of_all_pauses(monkeypatch):
    readings = iter([START, replace(START, clock_s=13.1), replace(START, clock_s=16.2)])
    monkeypatch.setattr(Beat, "now", lambda earlier=None: next(readings))
    clock = iter([10.0, 16.2])
    monkeypatch.setattr(heartbeat, "perf_counter", lambda: next(clock))
    watch = Heartbeat()
    ticks = iter([False, True])
    watch._over.wait = lambda seconds: next(ticks)
    with watch:
        watch._thread.join()
    assert watch.reason("the load") == "the process did not run for 6 s of the load"


def test_a_stage_without_a_pause_has_no_reason():
    with Heartbeat() as watch:
        pass
    assert watch.reason("the load") is None
