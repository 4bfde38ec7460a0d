"""Times of day advance with the monotonic clock, and a wall clock that is set is noticed once."""

import pytest

from visionbench.records import clock
from visionbench.records.clock import WallClock


@pytest.fixture
def clocks(monkeypatch):
    """The wall clock and the monotonic clock, which a test sets."""
    times = {"wall": 1_000_000.0, "monotonic": 50.0}
    monkeypatch.setattr(clock.time, "time", lambda: times["wall"])
    monkeypatch.setattr(clock, "monotonic_s", lambda: times["monotonic"])
    return times


def watch(times):
    return WallClock(times["wall"], times["monotonic"])


def test_the_time_of_day_advances_with_the_monotonic_clock(clocks):
    watched = watch(clocks)
    assert watched.now() == "1970-01-12T13:46:40.000+00:00"
    clocks["wall"], clocks["monotonic"] = 0.0, 52.5
    assert watched.now() == "1970-01-12T13:46:42.500+00:00"


def test_a_change_of_the_wall_clock_is_returned_once(clocks):
    watched = watch(clocks)
    clocks["wall"] += 10.0
    clocks["monotonic"] += 10.0
    assert watched.moved_s() == 0.0
    clocks["wall"] -= 3600.0
    assert watched.moved_s() == pytest.approx(-3600.0)
    assert watched.moved_s() == 0.0


def test_small_differences_of_the_clocks_do_not_count(clocks):
    watched = watch(clocks)
    clocks["wall"] += 0.9
    assert watched.moved_s() == 0.0


def test_the_clocks_of_this_machine_agree():
    assert WallClock().moved_s() == 0.0
