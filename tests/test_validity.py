"""The verdict on a case's numbers, and its reasons."""

import numpy as np
import pytest

from visionbench.core import INVALID, VALID, WARNED, Reason, Samples, Validity
from visionbench.validity import judge


def test_a_reason_reads_as_its_kind_and_its_detail():
    reason = Reason("autocorrelated", "neighbouring calls resemble each other (lag 1: 0.31)")
    assert str(reason) == "autocorrelated: neighbouring calls resemble each other (lag 1: 0.31)"
    assert Reason.parse(str(reason)) == reason
    assert str(Reason("steal")) == "steal" and Reason.parse("steal") == Reason("steal")


def samples(delay=None, **flags):
    series = {} if delay is None else {"latency/run_delay_fraction": np.array([delay])}
    return Samples(series, flags=flags)


def test_a_quiet_case_is_valid():
    assert judge(samples(delay=0.0)) == Validity(VALID, ())


def test_an_unknown_run_delay_does_not_warn():
    assert judge(samples()) == Validity(VALID, ())


def test_each_flag_warns_with_its_detail():
    validity = judge(samples(not_converged="±3 %", warmup_unstable="8 %"))
    assert validity == Validity(WARNED, (Reason("not_converged", "±3 %"), Reason("warmup_unstable", "8 %")))


@pytest.mark.parametrize(
    ("delay", "verdict"),
    [(0.02, VALID), (0.021, WARNED), (0.05, WARNED), (0.051, INVALID), (0.9, INVALID)],
)
def test_a_run_delay_warns_over_2_percent_and_invalidates_over_5(delay, verdict):
    assert judge(samples(delay=delay)).verdict == verdict


def test_the_reason_for_a_run_delay_has_its_share():
    assert judge(samples(delay=0.123)).reasons == (
        Reason("run_delay", "threads waited for a core 12.3% of the latency window"),
    )


def test_an_invalid_run_delay_stays_invalid_beside_a_flag():
    validity = judge(samples(delay=0.2, not_converged="±3 %"))
    assert validity.verdict == INVALID
    assert len(validity.reasons) == 2


def noisy(name, value):
    return Samples({name: np.array([value])})


@pytest.mark.parametrize("window", ["latency", "throughput"])
@pytest.mark.parametrize(
    ("name", "value", "verdict", "reason"),
    [
        ("run_delay_fraction", 0.03, WARNED, "run_delay"),
        ("run_delay_fraction", 0.06, INVALID, "run_delay"),
        ("steal_fraction", 0.019, VALID, None),
        ("steal_fraction", 0.03, WARNED, "steal"),
        ("steal_fraction", 0.2, INVALID, "steal"),
        ("involuntary_switches_per_s", 100.0, VALID, None),
        ("involuntary_switches_per_s", 101.0, WARNED, "involuntary_switches"),
        ("involuntary_switches_per_s", 9999.0, WARNED, "involuntary_switches"),
    ],
)
def test_every_disturbance_is_judged_in_every_window(window, name, value, verdict, reason):
    validity = judge(noisy(f"{window}/{name}", value))
    assert validity.verdict == verdict
    assert [item.kind for item in validity.reasons] == ([reason] if reason else [])
    assert all(window in item.detail for item in validity.reasons)


def test_a_fault_invalidates_and_comes_before_the_warnings():
    validity = judge(Samples(flags={"warmup_unstable": "8 %"}, faults={"foreign_process": "pid 7"}))
    assert validity == Validity(INVALID, (Reason("foreign_process", "pid 7"), Reason("warmup_unstable", "8 %")))


def kinds(host):
    return [reason.kind for reason in judge(Samples({"latency/host_s": np.asarray(host)})).reasons]


def test_independent_calls_with_equal_halves_have_no_warning():
    rng = np.random.default_rng(3)
    assert kinds(1 + 0.05 * rng.standard_normal(400)) == []


def test_autocorrelated_calls_warn():
    rng = np.random.default_rng(3)
    steps = np.repeat(rng.standard_normal(100), 4)
    assert kinds(1 + 0.01 * steps) == ["autocorrelated"]


def test_halves_that_differ_warn():
    rng = np.random.default_rng(3)
    host = 1 + 0.05 * rng.standard_normal(400)
    host[200:] *= 1.04
    assert "halves_differ" in kinds(host)


def test_a_difference_within_the_spread_of_few_calls_does_not_warn():
    assert kinds([1.0, 1.3, 0.9, 1.2, 1.0, 1.25, 0.95, 1.4]) == []
    assert kinds([1.0]) == kinds([]) == []


# ------------------------------------------------------------------------------------------------------------- pauses
def window(calls, idle=None, stopped=None, name="latency", suspended=0.0):
    series = "host_s" if name in ("warmup", "latency") else "completed_s"
    values = np.asarray(calls, float)
    readings = {"thread_idle_s": idle, "process_stopped_s": stopped, "suspended_s": suspended}
    return Samples(
        {
            f"{name}/{series}": values if series == "host_s" else np.cumsum(values),
            **{f"{name}/{key}": np.array([value]) for key, value in readings.items() if value is not None},
        }
    )


def paused(samples):
    """Return the verdict and the detail of the pause, or None."""
    judged = judge(samples)
    details = [reason.detail for reason in judged.reasons if reason.kind == "paused"]
    return (judged.verdict, details[0]) if details else None


@pytest.mark.parametrize("name", ["warmup", "latency", "throughput", "telemetry"])
def test_a_long_call_in_which_the_thread_was_idle_is_a_pause_in_every_window(name):
    found = paused(window([0.1] * 9 + [40.1], idle=40.0, stopped=40.0, name=name))
    assert found == (INVALID, f"the process did not run for 40 s of the {name} window")


def test_a_long_call_in_which_the_thread_computed_or_waited_for_a_core_is_no_pause():
    assert paused(window([0.1] * 9 + [40.1], idle=0.0, stopped=0.0)) is None


def test_idle_time_that_is_spread_evenly_over_the_calls_of_several_threads_is_no_pause():
    assert paused(window([0.1] * 100, idle=4.0, stopped=0.0)) is None


def test_the_pause_is_at_most_the_time_of_the_long_calls():
    assert paused(window([0.1] * 50 + [1.1], idle=3.0, stopped=0.0))[1].startswith("the process did not run for 1 s")


@pytest.mark.parametrize(("pause", "detected"), [(0.4, False), (0.6, True)])
def test_a_pause_counts_from_five_percent_of_the_window(pause, detected):
    assert bool(paused(window([0.1] * 99 + [0.1 + pause], idle=pause, stopped=pause))) is detected


def test_a_pause_of_less_than_a_tenth_of_a_second_does_not_count():
    assert paused(window([0.001] * 9 + [0.09], idle=0.09, stopped=0.09)) is None


def test_with_two_calls_the_shorter_one_is_typical():
    assert paused(window([10.0, 50.0], idle=40.0, stopped=40.0)) == (
        INVALID,
        "the process did not run for 40 s of the latency window",
    )


def test_a_single_call_is_judged_by_the_time_in_which_no_thread_ran():
    assert paused(window([40.0], idle=39.0, stopped=39.0))[0] == INVALID
    assert paused(window([40.0], idle=20.0, stopped=0.0)) is None


def test_time_in_which_no_thread_ran_without_long_calls_is_questionable():
    found = paused(window([0.1] * 100, idle=5.0, stopped=5.0))
    assert found == (WARNED, "no thread ran for 5 s of the 10 s of the latency window")


@pytest.mark.parametrize("idle", [None, 41.0])
def test_on_a_device_with_a_queue_only_very_long_calls_are_a_pause(idle):
    """The thread is idle while it waits for the device, or the kernel does not report it."""
    assert paused(window([0.1] * 9 + [40.1], idle=idle))[0] == INVALID
    assert paused(window([0.1] * 70 + [0.9] * 30, idle=idle)) is None
    assert paused(window([0.01] * 99 + [0.3], idle=idle)) is None
    assert paused(window([5.0] + [0.01] * 99, idle=idle, name="warmup")) is None


def test_a_thread_that_never_idled_was_not_paused_on_a_device_with_a_queue():
    assert paused(window([0.1] * 9 + [40.1], idle=0.0)) is None


def test_a_suspended_machine_is_a_pause_although_the_clock_of_the_calls_stood_still():
    found = paused(window([0.1] * 10, idle=0.0, stopped=0.0, suspended=3600.0))
    assert found == (INVALID, "the machine was suspended for 3.6e+03 s in the latency window")


def test_throughput_of_a_paused_window_that_an_earlier_version_stored_is_invalid():
    assert paused(Samples({"throughput/completed_s": np.array([*np.arange(1, 60) * 0.015, 41.0])}))[0] == INVALID
