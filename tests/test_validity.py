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
