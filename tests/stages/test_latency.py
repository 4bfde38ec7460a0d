"""The latency stage ends when the median is known well enough, or at its limit with a flag."""

import sys
from types import SimpleNamespace

import pytest

from visionbench.config import LatencyConfig
from visionbench.core import Samples
from visionbench.machine import Noise, RunDelay
from visionbench.stages import latency, windows


def rule(**changes):
    """Return a rule of at least ten calls and the median, without other conditions."""
    defaults = {"min_calls": 10, "min_seconds": 0.0, "max_seconds": 1e6, "percentile": 0.5}
    return LatencyConfig(**{**defaults, **changes})


def calls(context):
    return len(latency.run(context).get("latency/host_s"))


def test_equal_calls_end_at_min_calls(measured):
    samples = latency.run(measured(0.5, rule=rule()))
    assert samples.get("latency/host_s").tolist() == [0.5] * 10
    assert not samples.flags


def test_calls_last_for_min_seconds(measured):
    assert calls(measured(1.0, rule=rule(min_seconds=25.0))) == 25


def test_calls_continue_until_the_percentile_has_enough_samples(measured):
    # checked after 10, then 13, 17, 23, 30 and 39 calls; p90 needs 36
    assert calls(measured(1.0, rule=rule(percentile=0.9))) == 39


def test_calls_continue_until_the_interval_of_the_median_is_narrow_enough(measured):
    noisy = [1.0, 1.1] * 20
    samples = latency.run(measured(*noisy, 1.0, rule=rule()))
    assert len(samples.get("latency/host_s")) > len(noisy)
    assert not samples.flags


def test_calls_that_vary_end_at_max_seconds_with_a_flag(measured):
    samples = latency.run(measured(*[1.0, 2.0] * 50, rule=rule(max_seconds=30.0)))
    assert len(samples.get("latency/host_s")) == 20
    assert samples.flags == {"not_converged": "the median is known to ±33.3%, not ±2%, after 20 calls"}


def test_too_few_samples_for_the_percentile_at_max_seconds_are_flagged(measured):
    samples = latency.run(measured(1.0, rule=rule(percentile=0.99, max_seconds=40.0)))
    assert samples.flags == {"not_converged": "40 calls are too few for p99 (368)"}


def test_a_slow_model_gets_six_calls_even_past_max_seconds(measured):
    samples = latency.run(measured(100.0, rule=rule(max_seconds=120.0)))
    assert len(samples.get("latency/host_s")) == 6
    assert not samples.flags


def test_fewer_calls_than_an_interval_needs_are_flagged(measured):
    samples = latency.run(measured(100.0, rule=rule(max_seconds=120.0, least_calls=2)))
    assert len(samples.get("latency/host_s")) == 2
    assert samples.flags == {"not_converged": "2 calls are too few for an interval of the median"}


@pytest.mark.parametrize(("kind", "converged"), [("cpu", True), ("cuda", False)])
def test_the_tolerance_of_the_median_depends_on_the_kind_of_device(measured, kind, converged):
    context = measured(*[1.00, 1.03] * 50, rule=rule(max_seconds=30.0), kind=kind)
    assert ("not_converged" not in latency.run(context).flags) is converged


def test_a_fixed_number_of_calls_is_exact_and_is_not_judged(measured):
    samples = latency.run(measured(*[1.0, 50.0] * 2, rule=rule(calls=3, max_seconds=1.0)))
    assert samples.get("latency/host_s").tolist() == [1.0, 50.0, 1.0]
    assert not samples.flags


def test_a_device_with_a_queue_gives_device_and_enqueue_times(measured):
    samples = latency.run(measured(1.0, rule=rule(calls=2), queued=True))
    assert samples.get("latency/device_s").tolist() == [0.5, 0.5]
    assert samples.get("latency/enqueue_s").tolist() == [0.25, 0.25]
    assert not samples.missing


def test_a_device_without_a_queue_gives_the_reason_for_missing_times(measured):
    samples = latency.run(measured(1.0, rule=rule(calls=2)))
    assert samples.missing["latency/device_s"] == "cpu has no queue: a call returns when it is done"
    assert "latency/enqueue_s" in samples.missing


def test_the_disturbances_of_the_window_are_in_the_samples(measured, monkeypatch):
    readings = iter([Noise(RunDelay(1.0, 0.0), 3, 1.0), Noise(RunDelay(3.0, 10.0), 53, None)])
    monkeypatch.setattr(windows.Noise, "now", lambda this_thread_only: next(readings))
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    samples = latency.run(measured(1.0, rule=rule()))
    assert samples.get("latency/run_delay_fraction").tolist() == [0.1]
    assert samples.get("latency/involuntary_switches_per_s").tolist() == [5.0]
    assert samples.missing["latency/steal_fraction"] == "this kernel does not report it"


def test_on_a_device_with_a_queue_only_the_launching_thread_is_watched(measured, monkeypatch):
    readings, arguments = iter([Noise(RunDelay(1.0, 0.0), 3, 1.0), Noise(RunDelay(2.0, 10.0), 53, None)]), []
    monkeypatch.setattr(
        windows.Noise, "now", lambda this_thread_only: arguments.append(this_thread_only) or next(readings)
    )
    monkeypatch.setattr("torch.get_num_threads", lambda: 16)
    samples = latency.run(measured(1.0, rule=rule(), queued=True))
    assert arguments == [True, True]
    assert samples.get("latency/run_delay_fraction").tolist() == [0.1]  # not a sixteenth of it


def test_the_devices_faults_in_the_window_are_in_the_samples(measured):
    context = measured(1.0, rule=rule())
    context.device.watch = lambda: lambda: Samples(faults={"thermal_throttling": "0.2 s"})
    assert latency.run(context).faults == {"thermal_throttling": "0.2 s"}


def test_a_compilation_within_the_window_is_a_fault(measured, monkeypatch):
    counters = {"stats": {"unique_graphs": 1}}
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", SimpleNamespace(counters=counters))
    context = measured(1.0, rule=rule())
    context.model.call = lambda inputs: counters["stats"].update(unique_graphs=2)
    assert latency.run(context).faults == {"recompiled": "torch compiled 1 times within the latency window"}
