"""A queue that grows, in virtual time."""

import numpy as np
import pytest

from visionbench.serving.arrivals import poisson_times
from visionbench.serving.batching import BatchRule
from visionbench.serving.stability import backlog, queue_grows
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


def test_no_queries_do_not_grow_a_queue():
    assert not queue_grows(np.empty(0), np.empty(0), 1)
