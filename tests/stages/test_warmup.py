"""Warm-up ends when calls are steady, or at its limit with a flag."""

import pytest

from visionbench.config import WarmupConfig
from visionbench.stages import warmup


def rule(**changes):
    """Return a rule of three windows of two calls, without other conditions."""
    defaults = {"min_calls": 1, "min_seconds": 0.0, "window_calls": 2, "window_seconds": 0.0, "max_seconds": 1e6}
    return WarmupConfig(**{**defaults, **changes})


def calls(context):
    return len(warmup.run(context).get("warmup/host_s"))


def test_warmup_ends_when_three_windows_agree(measured):
    context = measured(9.0, 5.0, 3.0, 2.0, 1.0, rule=rule())
    samples = warmup.run(context)
    assert samples.get("warmup/host_s").tolist() == [9.0, 5.0, 3.0, 2.0] + [1.0] * 6
    assert not samples.flags


def test_at_least_min_calls_are_made(measured):
    assert calls(measured(1.0, rule=rule(min_calls=25))) == 25


def test_calls_last_for_min_seconds(measured):
    assert calls(measured(1.0, rule=rule(min_seconds=20.0))) == 20


def test_a_window_lasts_for_window_seconds(measured):
    assert calls(measured(0.125, rule=rule(window_seconds=0.5))) == 3 * 4


def test_calls_that_vary_end_at_max_seconds_with_a_flag(measured):
    context = measured(*[1.1**n for n in range(100)], rule=rule(max_seconds=50.0))
    samples = warmup.run(context)
    assert 50.0 <= sum(samples.get("warmup/host_s")) < 60.0
    assert list(samples.flags) == ["warmup_unstable"]
    assert samples.flags["warmup_unstable"].startswith("medians still differed by over 5%")


def test_a_call_longer_than_max_seconds_is_made_once(measured):
    assert calls(measured(100.0, rule=rule(max_seconds=50.0))) == 1


@pytest.mark.parametrize(("kind", "steady"), [("cpu", True), ("cuda", False)])
def test_the_tolerance_depends_on_the_kind_of_device(measured, kind, steady):
    context = measured(*[1.008**n for n in range(100)], rule=rule(max_seconds=30.0), kind=kind)
    assert (warmup.run(context).flags == {}) is steady


def test_a_fixed_number_of_calls_is_exact_and_is_not_judged(measured):
    context = measured(*[2.0**n for n in range(7)], rule=rule(calls=7, max_seconds=1.0))
    samples = warmup.run(context)
    assert len(samples.get("warmup/host_s")) == 7
    assert not samples.flags


def test_calls_rotate_over_the_batches(measured):
    context = measured(rule=rule(calls=5), batches=("a", "b"))
    warmup.run(context)
    assert context.model.called == ["a", "b", "a", "b", "a"]
