"""A queue that grows, in virtual time."""

import numpy as np
import pytest

from visionbench.serving.arrivals import poisson_times
from visionbench.serving.batching import BatchRule
from visionbench.serving.stability import SETTLED, backlog, drift, is_long_at_end, queue_grows
from visionbench.serving.virtual import simulate

MU = 50.0


def grows(rho, queries, seed, service=lambda size: 1 / MU):
    arrived = poisson_times(rho * MU, queries, seed)
    return queue_grows(arrived, simulate(arrived, BatchRule(1), service).ended, 1)


@pytest.mark.parametrize("queries", [300, 3000])
@pytest.mark.parametrize("seed", range(10))
def test_a_load_of_twice_the_capacity_grows_the_queue(queries, seed):
    assert grows(2.0, queries, seed)


@pytest.mark.parametrize("queries", [300, 3000])
def test_a_stable_load_rarely_seems_to_grow_the_queue(queries):
    assert not any(grows(0.5, queries, seed) for seed in range(50))
    assert sum(grows(0.8, queries, seed) for seed in range(50)) <= 1


def test_queries_without_an_answer_wait_at_the_end():
    scheduled = np.arange(100) / 10.0
    completed = np.where(np.arange(100) < 30, scheduled + 0.1, np.nan)
    assert backlog(scheduled, completed, scheduled[-1]) == 70
    assert backlog(scheduled, completed, 0.0) == 1


def test_one_pause_at_the_end_is_not_a_queue_that_grows():
    scheduled = np.arange(1000) / 100.0
    completed = scheduled + 0.01
    completed[900:] = 20.0
    assert not queue_grows(scheduled, completed, 1)


def test_a_queue_that_is_long_at_the_end_is_noticed_although_it_did_not_grow_before():
    scheduled = np.arange(1000) / 100.0
    completed = scheduled + 0.01
    completed[900:] = 20.0
    assert is_long_at_end(scheduled, completed, 1)
    assert not is_long_at_end(scheduled, scheduled + 0.01, 1)


@pytest.mark.parametrize("seed", range(10))
def test_a_load_slightly_above_the_capacity_drifts_or_has_a_long_queue(seed):
    arrived = poisson_times(1.1 * MU, 3000, seed)
    ended = simulate(arrived, BatchRule(1), lambda size: 1 / MU).ended
    assert is_long_at_end(arrived, ended, 1) or drift(ended - arrived) >= SETTLED


@pytest.mark.parametrize("seed", range(10))
def test_a_stable_load_has_similar_halves(seed):
    arrived = poisson_times(0.5 * MU, 3000, seed)
    assert drift(simulate(arrived, BatchRule(1), lambda size: 1 / MU).ended - arrived) < 1.25


def test_drift_leaves_out_queries_without_an_answer():
    assert drift(np.array([1.0, 1.0, np.nan, 2.0, 2.0])) == 2.0
    assert drift(np.array([np.nan, 1.0])) == 1.0


def test_no_queries_do_not_grow_a_queue():
    assert not queue_grows(np.empty(0), np.empty(0), 1)
