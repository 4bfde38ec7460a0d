"""Arrival times: the distribution of gaps and counts of a Poisson process, and the constant rate."""

import numpy as np
import pytest
from scipy import stats

from visionbench.serving.arrivals import constant_times, poisson_times, scheduled_times

RATE = 40.0


def test_the_gaps_of_poisson_arrivals_are_exponential_and_independent():
    gaps = np.diff(poisson_times(RATE, 50_000, seed=3), prepend=0.0)
    assert stats.kstest(gaps, stats.expon(scale=1 / RATE).cdf).pvalue > 0.01
    correlation = np.corrcoef(gaps[1:], gaps[:-1])[0, 1]
    assert abs(correlation) < 3 / len(gaps) ** 0.5


def test_the_counts_of_poisson_arrivals_in_windows_have_a_variance_equal_to_their_mean():
    times = poisson_times(RATE, 50_000, seed=4)
    windows = int(times[-1] / 0.5)
    counts = np.bincount((times / 0.5).astype(int), minlength=windows)[:windows]
    dispersion = counts.var(ddof=1) / counts.mean()
    chi2 = stats.chi2(windows - 1)
    assert chi2.ppf(0.005) < dispersion * (windows - 1) < chi2.ppf(0.995)
    expected = RATE * 0.5
    assert abs(counts.mean() - expected) < 3 * (expected / windows) ** 0.5


def test_a_seed_gives_the_same_arrivals_and_another_seed_gives_others():
    first = poisson_times(RATE, 100, seed=0)
    assert np.array_equal(first, poisson_times(RATE, 100, seed=0))
    assert not np.array_equal(first, poisson_times(RATE, 100, seed=1))


def test_more_arrivals_begin_with_the_same_ones():
    assert np.array_equal(poisson_times(RATE, 100, seed=0), poisson_times(RATE, 1000, seed=0)[:100])


def test_a_double_rate_halves_the_gaps_of_the_same_seed():
    assert np.allclose(poisson_times(2 * RATE, 100, seed=0) * 2, poisson_times(RATE, 100, seed=0))


def test_constant_arrivals_have_equal_gaps():
    assert constant_times(4.0, 4).tolist() == [0.25, 0.5, 0.75, 1.0]
    assert np.array_equal(scheduled_times("constant", 4.0, 4, seed=9), constant_times(4.0, 4))


def test_a_closed_loop_has_no_scheduled_times():
    with pytest.raises(ValueError, match="closed"):
        scheduled_times("closed", 4.0, 4, seed=0)
