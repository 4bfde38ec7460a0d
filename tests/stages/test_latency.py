"""The latency pass ends when the median is known, and never pretends that it is."""

import sys
from types import SimpleNamespace

import pytest

from visionbench.config import LatencyConfig
from visionbench.core import Samples
from visionbench.machine import Noise, RunDelay
from visionbench.stages import context as context_of_stages
from visionbench.stages import latency


def rule(**changes):
    """Ten calls and the median, and no other condition."""
    defaults = {"min_calls": 10, "min_seconds": 0.0, "max_seconds": 1e6, "percentile": 0.5}
    return LatencyConfig(**{**defaults, **changes})


def calls(context):
    return len(latency.run(context).get("latency/host_s"))


def test_it_stops_at_the_fewest_calls_when_they_agree(measured):
    found = latency.run(measured(0.5, rule=rule()))
    assert found.get("latency/host_s").tolist() == [0.5] * 10
    assert not found.flags


def test_it_lasts_as_long_as_is_asked_for(measured):
    assert calls(measured(1.0, rule=rule(min_seconds=25.0))) == 25


def test_it_goes_on_until_the_percentile_has_its_samples(measured):
    # looked at after 10, then 13, 17, 23, 30 and 39 calls; p90 wants 36
    assert calls(measured(1.0, rule=rule(percentile=0.9))) == 39


def test_it_goes_on_until_the_median_is_known_well_enough(measured):
    noisy = [1.0, 1.1] * 20
    found = latency.run(measured(*noisy, 1.0, rule=rule()))
    taken = found.get("latency/host_s").tolist()
    assert len(taken) > len(noisy)
    assert not found.flags


def test_calls_that_never_agree_end_at_the_cap_with_a_flag(measured):
    found = latency.run(measured(*[1.0, 2.0] * 50, rule=rule(max_seconds=30.0)))
    assert len(found.get("latency/host_s")) == 20
    assert found.flags == {"not_converged": "the median is known to ±33.3%, not ±2%, after 20 calls"}


def test_a_cap_before_the_percentile_has_its_samples_is_flagged(measured):
    found = latency.run(measured(1.0, rule=rule(percentile=0.99, max_seconds=40.0)))
    assert found.flags == {"not_converged": "40 calls are too few for p99 (368)"}


def test_a_slow_model_gets_the_six_calls_that_a_median_needs_even_beyond_the_cap(measured):
    found = latency.run(measured(100.0, rule=rule(max_seconds=120.0)))
    assert len(found.get("latency/host_s")) == 6
    assert not found.flags


def test_fewer_calls_than_an_interval_needs_are_flagged(measured):
    found = latency.run(measured(100.0, rule=rule(max_seconds=120.0, least_calls=2)))
    assert len(found.get("latency/host_s")) == 2
    assert found.flags == {"not_converged": "2 calls are too few for an interval of the median"}


@pytest.mark.parametrize(("kind", "known"), [("cpu", True), ("cuda", False)])
def test_how_well_is_well_enough_hangs_on_the_kind_of_device(measured, kind, known):
    context = measured(*[1.00, 1.03] * 50, rule=rule(max_seconds=30.0), kind=kind)
    assert ("not_converged" not in latency.run(context).flags) is known


def test_a_fixed_count_is_exact_and_judges_nothing(measured):
    found = latency.run(measured(*[1.0, 50.0] * 2, rule=rule(calls=3, max_seconds=1.0)))
    assert found.get("latency/host_s").tolist() == [1.0, 50.0, 1.0]
    assert not found.flags


def test_a_device_with_a_queue_gives_its_spans_too(measured):
    found = latency.run(measured(1.0, rule=rule(calls=2), queued=True))
    assert found.get("latency/device_s").tolist() == [0.5, 0.5]
    assert found.get("latency/enqueue_s").tolist() == [0.25, 0.25]
    assert not found.missing


def test_a_device_without_a_queue_says_why_it_has_no_spans(measured):
    found = latency.run(measured(1.0, rule=rule(calls=2)))
    assert found.missing["latency/device_s"] == "cpu has no queue: a call returns when it is done"
    assert "latency/enqueue_s" in found.missing


def test_what_disturbed_the_window_is_kept(measured, monkeypatch):
    readings = iter([Noise(RunDelay(1.0, 0.0), 3, 1.0), Noise(RunDelay(3.0, 10.0), 53, None)])
    monkeypatch.setattr(context_of_stages.Noise, "now", lambda this_thread_only: next(readings))
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    found = latency.run(measured(1.0, rule=rule()))
    assert found.get("latency/run_delay_fraction").tolist() == [0.1]
    assert found.get("latency/involuntary_switches_per_s").tolist() == [5.0]
    assert found.missing["latency/steal_fraction"] == "the kernel does not tell it here"


def test_on_a_device_with_a_queue_only_the_launching_thread_is_watched(measured, monkeypatch):
    readings, asked = iter([Noise(RunDelay(1.0, 0.0), 3, 1.0), Noise(RunDelay(2.0, 10.0), 53, None)]), []
    monkeypatch.setattr(
        context_of_stages.Noise, "now", lambda this_thread_only: asked.append(this_thread_only) or next(readings)
    )
    monkeypatch.setattr("torch.get_num_threads", lambda: 16)
    found = latency.run(measured(1.0, rule=rule(), queued=True))
    assert asked == [True, True]
    assert found.get("latency/run_delay_fraction").tolist() == [0.1]  # not a sixteenth of it


def test_what_the_device_saw_in_the_window_is_kept(measured):
    context = measured(1.0, rule=rule())
    context.device.watch = lambda: lambda: Samples(faults={"thermal_throttling": "0.2 s"})
    assert latency.run(context).faults == {"thermal_throttling": "0.2 s"}


def test_a_compilation_within_the_window_voids_it(measured, monkeypatch):
    counters = {"stats": {"unique_graphs": 1}}
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", SimpleNamespace(counters=counters))
    context = measured(1.0, rule=rule())
    context.model.call = lambda inputs: counters["stats"].update(unique_graphs=2)
    assert latency.run(context).faults == {"recompiled": "torch compiled 1 times within the latency window"}
