"""The search for the largest load, and the interval of the share of requests within a bound."""

from __future__ import annotations

import numpy as np
import pytest

from visionbench.serving.search import (
    LEAST_REQUESTS,
    STUDENT_ALPHA,
    LoadSearch,
    SearchRule,
    Share,
    Trial,
    rounded,
    share_within,
    variance_inflation,
)
from visionbench.statistics.resampling import wilson

SERVICE_S = 0.01
RATE = 1 / SERVICE_S
REQUIRED = 0.99
SOME = Share(0.995, 0.992, 0.998)
GOOD, BAD, UNSURE = SOME, Share(0.9, 0.88, 0.92), Share(0.99, 0.97, 0.999)


def one_server(load, count, seed, random_service):
    """The latencies of a server for single requests, by Lindley's recursion."""
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / load, count)
    service = random.exponential(SERVICE_S, count) if random_service else np.full(count, SERVICE_S)
    waits = np.empty(count)
    wait = 0.0
    for index in range(count):
        waits[index] = wait
        wait = max(0.0, wait + service[index] - (gaps[index + 1] if index + 1 < count else 0.0))
    return waits + service


def true_percentile(load, share):
    """The percentile of the latency of M/M/1, which is exponential with the rate that is left."""
    return -np.log(1 - share) / (RATE - load)


def measured(random_service, bound_s, count=20_000):
    """A function that measures a load of a simulated server."""

    def measure(load):
        stable = load < RATE
        latency = one_server(load, count, int(load * 1000), random_service)[count // 10 :]
        return Trial(load, share_within(latency, bound_s), REQUIRED, stable, half=share_within(latency, bound_s / 2))

    return measure


def run(measure, rule):
    search = LoadSearch(rule)
    while (load := search.next_load()) is not None:
        search.add(measure(load))
    return search


# ------------------------------------------------------------------------------------------------------ the interval
@pytest.mark.parametrize("utilization", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("share", [0.9, 0.99])
def test_the_interval_of_a_share_covers_the_true_share_of_correlated_requests(utilization, share):
    load = utilization * RATE
    bound = true_percentile(load, share)
    covered = []
    for seed in range(60):
        estimate = share_within(one_server(load, 22_000, seed, True)[2_000:], bound)
        covered.append(estimate.low <= share <= estimate.high)
    assert np.mean(covered) >= 0.9


def test_an_interval_for_independent_requests_would_not_cover_the_share_of_correlated_ones():
    load = 0.9 * RATE
    bound = true_percentile(load, 0.99)
    covered = []
    for seed in range(60):
        within = one_server(load, 22_000, seed, True)[2_000:] <= bound
        low, high = wilson(float(within.mean()), len(within))
        covered.append(low <= 0.99 <= high)
    assert np.mean(covered) < 0.6


@pytest.mark.parametrize(("utilization", "count"), [(0.95, 1100), (0.97, 1100), (0.95, 3300)])
def test_a_window_that_is_short_beside_the_memory_of_the_queue_does_not_hold(utilization, count):
    """The true share is below the required one, but a short window often has no request beyond the bound."""
    load = utilization * RATE
    bound = 0.85 * true_percentile(load, REQUIRED)
    shares = [share_within(one_server(load, count, seed, True)[count // 10 :], bound) for seed in range(60)]
    assert sum(share.value > REQUIRED for share in shares) > 20
    assert sum(bool(Trial(load, share, REQUIRED).holds) for share in shares) <= 2


def test_independent_values_have_no_inflation_and_repeated_values_that_of_their_number():
    values = np.random.default_rng(0).random(40_000)
    assert variance_inflation(values) < 2.5
    assert 5 < variance_inflation(np.repeat(values, 10)[:40_000]) < 25
    assert variance_inflation(np.ones(1000)) == 1.0


def test_the_error_is_that_of_the_students_distribution():
    from scipy.stats import norm, t

    assert norm.ppf(1 - STUDENT_ALPHA / 2) == pytest.approx(t.ppf(0.975, 19), abs=2e-3)


def test_few_requests_have_no_interval():
    share = share_within(np.zeros(LEAST_REQUESTS - 1), 1.0)
    assert (share.value, share.low, share.high) == (1.0, 0.0, 1.0)


def test_requests_without_an_answer_are_not_within_the_bound():
    latency = np.full(1000, 0.01)
    latency[::2] = np.nan
    assert share_within(latency, 1.0).value == 0.5
    latency[::2] = np.inf
    assert share_within(latency, 1.0).value == 0.5


def test_equal_latencies_have_no_inflation():
    assert share_within(np.full(10_000, 0.01), 1.0).low > 0.999


def test_a_slow_drift_that_is_small_beside_the_bound_leaves_the_interval_narrow():
    drift = np.linspace(0.0101, 0.0104, 2000)
    assert share_within(drift, 0.1).low > 0.99
    assert share_within(np.linspace(0.01, 0.09, 2000), 0.1).low < 0.99


def test_if_all_requests_are_within_the_bound_the_interval_depends_on_the_correlation_of_latencies():
    random = np.random.default_rng(1)
    independent, correlated = random.random(10_000), np.repeat(random.random(100), 100)
    assert share_within(correlated, 2.0).low < share_within(independent, 2.0).low < 1.0


# ------------------------------------------------------------------------------------------------------ the decisions
@pytest.mark.parametrize(
    ("share", "stable", "holds"),
    [(GOOD, True, True), (BAD, True, False), (UNSURE, True, None), (GOOD, False, False)],
)
def test_a_load_holds_or_fails_only_with_its_complete_interval(share, stable, holds):
    assert Trial(1.0, share, REQUIRED, stable).holds is holds


@pytest.mark.parametrize(("share", "holds"), [(GOOD, None), (UNSURE, None), (BAD, False)])
def test_a_load_whose_queue_did_not_settle_can_fail_but_not_hold(share, holds):
    assert Trial(1.0, share, REQUIRED, settled=False).holds is holds


def scripted(limit, undecided=()):
    def measure(load):
        if any(low <= load <= high for low, high in undecided):
            return Trial(load, UNSURE, REQUIRED)
        return Trial(load, GOOD if load <= limit else BAD, REQUIRED)

    return measure


@pytest.mark.parametrize("start", [1.0, 90.0, 5000.0])
def test_the_boundary_encloses_the_limit_within_the_precision(start):
    search = run(scripted(100.0), SearchRule(start, 0.05, 40))
    result = search.result()
    assert result.low <= 100.0 < result.high <= result.low * 1.06
    assert result.statement == ""


def test_the_load_is_doubled_before_it_is_bisected():
    search = run(scripted(100.0), SearchRule(10.0, 0.1, 40))
    loads = [trial.load for trial in search.trials]
    assert loads[:5] == [10.0, 20.0, 40.0, 80.0, 160.0]
    assert all(80.0 < load < 160.0 for load in loads[5:])
    assert len(set(loads)) == len(loads)


def test_undecided_loads_are_within_the_boundary_and_named():
    search = run(scripted(100.0, undecided=[(90.0, 120.0)]), SearchRule(10.0, 0.05, 40))
    result = search.result()
    assert result.low < 90.0 and result.high > 120.0
    assert result.undecided and all(90.0 <= load <= 120.0 for load in result.undecided)
    assert "undecided at" in result.statement


def test_a_search_without_a_failure_ends_at_the_largest_load():
    result = run(scripted(1e9), SearchRule(10.0, largest=100.0)).result()
    assert (result.low, result.high) == (100.0, None)
    assert result.statement == "no load that was tried fails, the largest that holds is 100 requests/s"


def test_a_search_in_which_each_load_fails_ends_at_the_smallest_load():
    result = run(scripted(0.0), SearchRule(10.0, smallest=1.0)).result()
    assert (result.low, result.high) == (None, 1.0)
    assert result.statement == "no load that was tried holds the bound, the smallest is 1 requests/s"


def test_the_number_of_loads_is_limited():
    search = run(scripted(100.0), SearchRule(1.0, 0.0001, 6))
    assert len(search.trials) == 6


def test_a_load_that_fails_below_one_that_holds_is_stated_and_the_boundary_is_below_both():
    search = LoadSearch(SearchRule(10.0))
    for load, share in ((10.0, GOOD), (20.0, BAD), (40.0, GOOD)):
        search.add(Trial(load, share, REQUIRED))
    result = search.result()
    assert (result.low, result.high, result.contradicts) == (10.0, 20.0, True)
    assert result.statement == "20 requests/s fails although 40 holds: the machine was disturbed"


def test_a_cliff_is_stated_if_half_of_the_bound_holds_at_the_last_load_and_the_queue_grows_at_the_next():
    search = LoadSearch(SearchRule(10.0))
    search.add(Trial(10.0, GOOD, REQUIRED, half=GOOD))
    search.add(Trial(11.0, BAD, REQUIRED, False, half=BAD))
    assert search.result().statement == "cliff: at 10 requests/s even half of the bound holds, at 11 the queue grows"


def test_there_is_no_cliff_if_the_latency_rises_slowly():
    search = LoadSearch(SearchRule(10.0))
    search.add(Trial(10.0, GOOD, REQUIRED, half=BAD))
    search.add(Trial(11.0, BAD, REQUIRED, half=BAD))
    assert search.result().statement == ""


def test_loads_have_three_digits():
    assert [rounded(load) for load in (0.123456, 123.456, 98765.0)] == [0.123, 123.0, 98800.0]


# ------------------------------------------------------------------------------------------------- against theory
@pytest.mark.parametrize("bound_s", [0.1, 0.5])
def test_the_largest_load_of_m_m_1_is_that_of_theory(bound_s):
    capacity = RATE + np.log(1 - REQUIRED) / bound_s  # the load at which the percentile is the bound
    result = run(measured(True, bound_s), SearchRule(5.0, 0.05, 30)).result()
    assert result.low <= capacity <= result.high
    assert result.high / result.low < 1.5


def test_the_largest_load_of_m_d_1_is_between_those_of_half_and_of_all_its_variance():
    bound_s = 0.1
    of_m_m_1 = RATE + np.log(1 - REQUIRED) / bound_s
    result = run(measured(False, bound_s), SearchRule(5.0, 0.05, 30)).result()
    assert of_m_m_1 < result.low < result.high <= RATE * 1.1
