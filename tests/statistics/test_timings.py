"""Quantile intervals, compared with tables, enumeration and simulation; measures of an unsteady series."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from visionbench.statistics.timings import (
    across_interval,
    autocorrelation,
    halves_ratio,
    interval_ranks,
    least_samples,
    outliers,
    quantile_interval,
    welch_ratio,
)


@pytest.mark.parametrize(
    ("n", "p", "ranks"),
    [
        (5, 0.5, None),
        (6, 0.5, (1, 6)),
        (10, 0.5, (2, 9)),
        (20, 0.5, (6, 15)),
        (30, 0.5, (10, 21)),
        (100, 0.5, (40, 61)),
        (1000, 0.5, (469, 532)),
        (35, 0.9, None),
        (100, 0.9, (84, 96)),
        (0, 0.5, None),
    ],
)
def test_the_ranks_agree_with_published_tables(n, p, ranks):
    assert interval_ranks(n, p) == ranks


@pytest.mark.parametrize("p", [Fraction(1, 2), Fraction(9, 10), Fraction(1, 20)])
def test_the_ranks_agree_with_enumeration(p):
    tail = Fraction(1, 40)
    for n in range(1, 80):
        weights = [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        below = [sum(weights[:r], Fraction(0)) for r in range(n + 1)]  # below[r] = P(fewer than r samples are below)
        lower = max((r for r in range(1, n + 1) if below[r] <= tail), default=0)
        upper = min((r for r in range(1, n + 1) if 1 - below[r] <= tail), default=n + 1)
        expected = (lower, upper) if lower >= 1 and upper <= n else None
        assert interval_ranks(n, float(p)) == expected, n


def test_the_ranks_of_many_samples_do_not_underflow_or_overflow():
    lower, upper = interval_ranks(100_000, 0.5)
    assert (lower, upper) == (49_690, 50_311)  # n/2 ∓ 1.96·√n/2


@pytest.mark.parametrize(("p", "n"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688)])
def test_the_least_number_of_samples_is_the_first_with_an_interval(p, n):
    assert least_samples(p) == n
    assert interval_ranks(n, p) is not None
    assert interval_ranks(n - 1, p) is None


def test_the_interval_of_the_median_does_not_depend_on_the_order_of_the_samples():
    samples = np.array([6.0, 1.0, 10.0, 3.0, 2.0, 9.0, 4.0, 8.0, 7.0, 5.0])
    assert quantile_interval(samples, 0.5) == (2.0, 9.0)
    assert quantile_interval(samples[:5], 0.5) is None


@pytest.mark.parametrize(("n", "p"), [(11, 0.5), (50, 0.5), (200, 0.5), (100, 0.9)])
def test_the_coverage_of_a_quantile_interval_is_at_least_its_level(n, p):
    series, log_normal_quantile = 4000, {0.5: 1.0, 0.9: float(np.exp(1.2815515655446004))}[p]
    samples = np.random.default_rng(7).lognormal(size=(series, n))
    intervals = [quantile_interval(row, p) for row in samples]
    coverage = np.mean([low <= log_normal_quantile <= high for low, high in intervals])
    three_sigma = 3 * (0.95 * 0.05 / series) ** 0.5
    assert coverage >= 0.95 - three_sigma
    assert coverage < 1  # the interval from the lowest to the highest sample would always cover it


@pytest.mark.parametrize("coefficient", [-0.5, 0.0, 0.6, 0.9])
def test_autocorrelation_is_the_coefficient_of_an_autoregressive_series(coefficient):
    noise = np.random.default_rng(3).normal(size=20_000)
    series = np.zeros_like(noise)
    for index in range(1, len(noise)):
        series[index] = coefficient * series[index - 1] + noise[index]
    assert autocorrelation(series) == pytest.approx(coefficient, abs=0.02)


def test_autocorrelation_equals_the_value_computed_by_hand():
    assert autocorrelation(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) == pytest.approx(0.5)
    assert autocorrelation(np.array([1.0, -1.0] * 500)) == pytest.approx(-0.999)


@pytest.mark.parametrize("series", [[3.0] * 10, [1.0, 2.0], [1.0]])
def test_a_constant_or_very_short_series_has_no_autocorrelation(series):
    assert autocorrelation(np.array(series)) == 0.0


@pytest.mark.parametrize(
    ("series", "ratio"),
    [
        ([1.0, 1.0, 2.0, 2.0], 2.0),
        ([2.0, 2.0, 1.0, 1.0], 2.0),
        ([5.0, 5.0], 1.0),
        ([1.0, 9.0, 1.0, 3.0, 9.0, 3.0], 3.0),
    ],
)
def test_the_halves_ratio_is_the_larger_median_over_the_smaller(series, ratio):
    assert halves_ratio(np.array(series)) == ratio


# ----------------------------------------------------------------------------------------------------------- simulation
def iid(rng, n):
    return rng.lognormal(0.0, 0.1, n)


def bimodal(rng, n):
    return np.where(rng.random(n) < 0.4, 1.0, 1.5) * rng.lognormal(0.0, 0.01, n)


def ar1(rng, n, phi=0.8):
    noise = rng.standard_normal(n)
    series = [noise[0] / (1 - phi**2) ** 0.5]
    for shock in noise[1:]:
        series.append(phi * series[-1] + shock)
    return np.exp(0.05 * np.array(series))


TRUE_MEDIAN = {iid: 1.0, ar1: 1.0, bimodal: float(np.median(bimodal(np.random.default_rng(0), 1_000_000)))}


def coverage(series, n, rounds=600):
    """Return the share of simulated processes whose interval covers the true median."""
    rng = np.random.default_rng(17)
    hits = 0
    for _ in range(rounds):
        low, high = quantile_interval(series(rng, n), 0.5)
        hits += low <= TRUE_MEDIAN[series] <= high
    return hits / rounds


@pytest.mark.parametrize("series", [iid, bimodal])
@pytest.mark.parametrize("n", [20, 100])
def test_the_interval_of_independent_samples_covers_the_median(series, n):
    assert (
        0.95 - 0.02 <= coverage(series, n) <= 0.99
    )  # ranks are integers, so the coverage may be higher; three sigmas are 0.027


def test_the_interval_of_correlated_samples_is_too_narrow_and_they_are_detected():
    assert coverage(ar1, 100) < 0.75
    rng = np.random.default_rng(17)
    correlated = [autocorrelation(ar1(rng, 100)) > 0.2 for _ in range(200)]
    assert np.mean(correlated) > 0.99


@pytest.mark.parametrize("series", [iid, ar1, bimodal])
@pytest.mark.parametrize("processes", [3, 5, 10])
def test_the_interval_across_processes_covers_the_median_of_any_series(series, processes):
    rng = np.random.default_rng(23)
    hits, rounds = 0, 400
    for _ in range(rounds):
        shift = np.exp(0.05 * rng.standard_normal(processes))  # a random shift of each process
        medians = np.array([np.median(series(rng, 100)) for _ in range(processes)]) * shift
        _, low, high = across_interval(medians)
        hits += low <= TRUE_MEDIAN[series] <= high
    assert 0.91 <= hits / rounds <= 0.99


def test_the_interval_across_processes_is_students_t_of_the_logarithms():
    centre, low, high = across_interval(np.array([1.0, np.e**2]))  # logs 0 and 2: mean 1, s = √2, t(1) = 12.706
    assert centre == pytest.approx(np.e)
    assert np.log([low, high]) == pytest.approx([1 - 12.7062, 1 + 12.7062], rel=1e-4)


@pytest.mark.parametrize("medians", [[], [1.0], [1.0, 0.0]])
def test_one_process_has_no_interval_across_processes(medians):
    assert across_interval(np.array(medians)) is None


@pytest.mark.parametrize("sizes", [(5, 5), (2, 2), (3, 9)])
def test_the_interval_of_a_ratio_is_welchs_interval_of_the_logarithms(sizes):
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(7)
    base, candidate = np.exp(rng.normal(1, 0.1, sizes[0])), np.exp(rng.normal(1.2, 0.3, sizes[1]))
    ratio, low, high = welch_ratio(base, candidate)
    expected = ttest_ind(np.log(candidate), np.log(base), equal_var=False).confidence_interval(0.95)
    assert np.log([low, high]) == pytest.approx([expected.low, expected.high])
    assert np.log(ratio) == pytest.approx(np.log(candidate).mean() - np.log(base).mean())


def test_the_coverage_of_the_interval_of_a_ratio_is_near_its_level():
    rng = np.random.default_rng(11)
    hits, rounds = 0, 1000
    for _ in range(rounds):
        base, candidate = np.exp(0.02 * rng.standard_normal(5)), 1.1 * np.exp(0.08 * rng.standard_normal(5))
        _, low, high = welch_ratio(base, candidate)
        hits += low <= 1.1 <= high
    assert 0.93 <= hits / rounds <= 0.97


def test_without_spread_the_interval_of_a_ratio_is_the_ratio():
    assert welch_ratio(np.ones(3), np.full(2, 2.0)) == pytest.approx((2.0, 2.0, 2.0))


@pytest.mark.parametrize("base", [[1.0], [], [1.0, 0.0]])
def test_the_ratio_of_one_process_or_of_a_zero_has_no_interval(base):
    assert welch_ratio(np.array(base), np.ones(3)) is None


def test_outliers_are_counted_beyond_tukeys_fences():
    body = np.arange(100.0)  # quartiles 24.75 and 74.25: fences at 148.5 and 222.75
    assert outliers(body) == (0, 0)
    assert outliers(np.append(body, [-60.0, 170.0, 300.0])) == (2, 1)
    assert outliers(np.ones(10)) == outliers(np.array([1.0, 9.0])) == (0, 0)
