"""What makes a case's numbers doubtful or void."""

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


def test_an_unknown_run_delay_is_no_doubt():
    assert judge(samples()) == Validity(VALID, ())


def test_each_flag_warns_with_what_was_seen():
    found = judge(samples(not_converged="±3 %", warmup_unstable="8 %"))
    assert found == Validity(WARNED, (Reason("not_converged", "±3 %"), Reason("warmup_unstable", "8 %")))


@pytest.mark.parametrize(
    ("delay", "verdict"),
    [(0.02, VALID), (0.021, WARNED), (0.05, WARNED), (0.051, INVALID), (0.9, INVALID)],
)
def test_a_run_delay_warns_over_2_percent_and_invalidates_over_5(delay, verdict):
    assert judge(samples(delay=delay)).verdict == verdict


def test_the_run_delay_is_told_with_its_share():
    assert judge(samples(delay=0.123)).reasons == (
        Reason("run_delay", "threads waited for a core 12.3% of the latency window"),
    )


def test_a_flag_does_not_soften_an_invalid_run_delay():
    found = judge(samples(delay=0.2, not_converged="±3 %"))
    assert found.verdict == INVALID
    assert len(found.reasons) == 2


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
    found = judge(noisy(f"{window}/{name}", value))
    assert found.verdict == verdict
    assert [item.kind for item in found.reasons] == ([reason] if reason else [])
    assert all(window in item.detail for item in found.reasons)


def test_a_fault_invalidates_and_stands_before_the_doubts():
    found = judge(Samples(flags={"warmup_unstable": "8 %"}, faults={"foreign_process": "pid 7"}))
    assert found == Validity(INVALID, (Reason("foreign_process", "pid 7"), Reason("warmup_unstable", "8 %")))


def kinds(host):
    return [reason.kind for reason in judge(Samples({"latency/host_s": np.asarray(host)})).reasons]


def test_independent_calls_of_equal_halves_raise_no_doubt():
    rng = np.random.default_rng(3)
    assert kinds(1 + 0.05 * rng.standard_normal(400)) == []


def test_calls_that_resemble_their_neighbours_are_doubted():
    rng = np.random.default_rng(3)
    steps = np.repeat(rng.standard_normal(100), 4)
    assert kinds(1 + 0.01 * steps) == ["autocorrelated"]


def test_halves_that_differ_are_doubted():
    rng = np.random.default_rng(3)
    host = 1 + 0.05 * rng.standard_normal(400)
    host[200:] *= 1.04
    assert "halves_differ" in kinds(host)


def test_a_difference_within_the_spread_of_few_calls_is_no_doubt():
    assert kinds([1.0, 1.3, 0.9, 1.2, 1.0, 1.25, 0.95, 1.4]) == []
    assert kinds([1.0]) == kinds([]) == []
