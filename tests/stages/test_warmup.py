"""Warm-up ends when calls are steady, and says so when they are not."""

import pytest

from visionbench.config import WarmupConfig
from visionbench.stages import warmup


def rule(**changes):
    """Windows of two calls, three of them, and no other condition."""
    defaults = {"min_calls": 1, "min_seconds": 0.0, "window_calls": 2, "window_seconds": 0.0, "max_seconds": 1e6}
    return WarmupConfig(**{**defaults, **changes})


def calls(context):
    return len(warmup.run(context).get("warmup/host_s"))


def test_it_stops_as_soon_as_three_windows_agree(measured):
    context = measured(9.0, 5.0, 3.0, 2.0, 1.0, rule=rule())
    found = warmup.run(context)
    assert found.get("warmup/host_s").tolist() == [9.0, 5.0, 3.0, 2.0] + [1.0] * 6
    assert not found.flags


def test_it_makes_the_fewest_calls_that_are_asked_for(measured):
    assert calls(measured(1.0, rule=rule(min_calls=25))) == 25


def test_it_lasts_as_long_as_is_asked_for(measured):
    assert calls(measured(1.0, rule=rule(min_seconds=20.0))) == 20


def test_a_window_lasts_as_long_as_is_asked_for(measured):
    assert calls(measured(0.125, rule=rule(window_seconds=0.5))) == 3 * 4


def test_calls_that_never_agree_end_at_the_cap_with_a_flag(measured):
    context = measured(*[1.1**n for n in range(100)], rule=rule(max_seconds=50.0))
    found = warmup.run(context)
    assert 50.0 <= sum(found.get("warmup/host_s")) < 60.0
    assert list(found.flags) == ["warmup_unstable"]
    assert found.flags["warmup_unstable"].startswith("medians still differed by over 5%")


def test_a_call_longer_than_the_cap_is_made_once(measured):
    assert calls(measured(100.0, rule=rule(max_seconds=50.0))) == 1


@pytest.mark.parametrize(("kind", "steady"), [("cpu", True), ("cuda", False)])
def test_how_near_is_near_enough_hangs_on_the_kind_of_device(measured, kind, steady):
    context = measured(*[1.008**n for n in range(100)], rule=rule(max_seconds=30.0), kind=kind)
    assert (warmup.run(context).flags == {}) is steady


def test_a_fixed_count_is_exact_and_judges_nothing(measured):
    context = measured(*[2.0**n for n in range(7)], rule=rule(calls=7, max_seconds=1.0))
    found = warmup.run(context)
    assert len(found.get("warmup/host_s")) == 7
    assert not found.flags


def test_calls_rotate_over_the_batches(measured):
    context = measured(rule=rule(calls=5), batches=("a", "b"))
    warmup.run(context)
    assert context.model.called == ["a", "b", "a", "b", "a"]
