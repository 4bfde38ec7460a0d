"""A simulated server, compared with queueing theory and with batches that are computed by hand."""

from functools import cache

import numpy as np
import pytest
from scipy import stats

from visionbench.serving.arrivals import poisson_times
from visionbench.serving.batching import BatchRule
from visionbench.serving.virtual import simulate

MU = 50.0
"""The service rate of the server, in queries per second."""
ONE = BatchRule(max_batch=1)
REPLICATIONS, QUERIES, BURN_IN = 30, 12_000, 2_000
CONFIDENCE = 0.99
RHOS = (0.3, 0.6, 0.8)


def exponential(seed):
    generator = np.random.default_rng([seed, 1])
    return lambda size: generator.exponential(1 / MU)


def constant(seed):
    return lambda size: 1 / MU


@cache
def simulations(rho, service):
    return [simulate(poisson_times(rho * MU, QUERIES, seed), ONE, service(seed)) for seed in range(REPLICATIONS)]


def replications(rho, service, figure):
    """The figure of independent runs, each without its first queries, which find an emptier queue than later ones."""
    return np.array([figure(simulation) for simulation in simulations(rho, service)])


def interval(values):
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return values.mean() - reach, values.mean() + reach


def mean_wait(simulation):
    return simulation.waiting_s[BURN_IN:].mean()


@pytest.mark.parametrize("rho", RHOS)
def test_the_mean_wait_of_m_d_1_agrees_with_pollaczek_and_khinchine(rho):
    low, high = interval(replications(rho, constant, mean_wait))
    theory = rho / (2 * MU * (1 - rho))
    assert low < theory < high
    assert high - low < 0.2 * theory  # narrow enough to exclude the formula of M/M/1, which is twice as large


@pytest.mark.parametrize("rho", RHOS)
def test_the_mean_wait_of_m_m_1_agrees_with_theory(rho):
    low, high = interval(replications(rho, exponential, mean_wait))
    theory = rho / (MU * (1 - rho))
    assert low < theory < high
    assert high - low < 0.3 * theory


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("rho", RHOS)
def test_percentiles_of_the_sojourn_time_of_m_m_1_agree_with_its_exponential_distribution(rho, share):
    values = replications(rho, exponential, lambda simulation: np.quantile(simulation.sojourn_s[BURN_IN:], share))
    low, high = interval(values)
    assert low < -np.log(1 - share) / (MU * (1 - rho)) < high
    assert high - low < 0.3 * values.mean()


def test_the_busy_share_of_m_d_1_is_its_load():
    def busy(simulation):
        return sum(batch.end - batch.start for batch in simulation.batches) / simulation.ended[-1]

    low, high = interval(replications(0.6, constant, busy))
    assert low < 0.6 < high


def batches(arrived, max_batch, max_wait_s, service=lambda size: 1.0):
    simulation = simulate(np.array(arrived), BatchRule(max_batch, max_wait_s), service)
    return [(batch.start, batch.end, batch.size) for batch in simulation.batches]


def test_a_lone_query_waits_for_others_until_its_wait_is_over():
    assert batches([2.0], 4, 0.5) == [(2.5, 3.5, 1)]


def test_a_full_batch_starts_at_the_arrival_that_fills_it():
    assert batches([0.0, 0.1, 0.2], 3, 10.0) == [(0.2, 1.2, 3)]


def test_a_query_that_arrives_when_the_wait_ends_is_in_the_batch():
    assert batches([0.0, 0.5], 4, 0.5) == [(0.5, 1.5, 2)]


def test_a_query_that_arrives_after_the_start_is_in_the_next_batch():
    assert batches([0.0, 0.75], 4, 0.5) == [(0.5, 1.5, 1), (1.5, 2.5, 1)]


def test_queries_that_arrive_while_the_server_is_busy_form_the_next_batch_without_a_further_wait():
    assert batches([0.0, 0.1, 0.2, 0.3], 8, 0.0) == [(0.0, 1.0, 1), (1.0, 2.0, 3)]


def test_the_wait_of_a_query_counts_from_its_arrival_also_while_the_server_is_busy():
    assert batches([0.0, 0.75], 8, 0.5) == [(0.5, 1.5, 1), (1.5, 2.5, 1)]
    assert batches([0.0, 1.25], 8, 0.5) == [(0.5, 1.5, 1), (1.75, 2.75, 1)]


def test_a_queue_longer_than_the_largest_batch_is_served_in_order_of_arrival():
    simulation = simulate(np.zeros(5), BatchRule(2, 0.0), lambda size: float(size))
    assert [batch.size for batch in simulation.batches] == [2, 2, 1]
    assert simulation.started.tolist() == [0.0, 0.0, 2.0, 2.0, 4.0]
    assert simulation.ended.tolist() == [2.0, 2.0, 4.0, 4.0, 5.0]
    assert simulation.sojourn_s.tolist() == [2.0, 2.0, 4.0, 4.0, 5.0]


def test_no_queries_give_no_batches():
    assert batches([], 4, 0.5) == []


@pytest.mark.parametrize("seed", range(20))
def test_every_batch_of_random_arrivals_follows_the_rule(seed):
    generator = np.random.default_rng(seed)
    rule = BatchRule(int(generator.integers(1, 9)), float(generator.choice([0.0, 0.01, 0.1])))
    arrived = poisson_times(float(generator.uniform(5, 80)), 500, seed)
    simulation = simulate(arrived, rule, lambda size: float(generator.exponential(0.02)) + 0.002 * size)
    assert sum(batch.size for batch in simulation.batches) == len(arrived)
    free, first = 0.0, 0
    for batch in simulation.batches:
        after = first + batch.size
        assert 1 <= batch.size <= rule.max_batch
        full = batch.size == rule.max_batch
        due = arrived[first] + rule.max_wait_s
        assert batch.start == max(free, min(due, arrived[after - 1]) if full else due)
        assert (arrived[first:after] <= batch.start).all()
        assert full or after == len(arrived) or arrived[after] > batch.start
        free, first = batch.end, after
