"""Statistics over raw samples: quantiles with order-statistic intervals, and measures of whether a series is steady.

The interval of a quantile p from n samples is [X(l), X(u)] with l = max{r : F(r−1) ≤ α/2} and
u = min{r : 1−F(r−1) ≤ α/2}, F the Binomial(n, p) distribution. It holds for independent samples of one process: it is
a within-process interval.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, lgamma, log, log1p

import numpy as np

ALPHA = 0.05


@lru_cache(maxsize=4096)
def interval_ranks(n: int, p: float, alpha: float = ALPHA) -> tuple[int, int] | None:
    """Return the 1-based ranks (l, u) of the ends of the interval, or None if n samples are too few at this level."""
    if n < 1:
        return None
    cdf = _binomial_cdf(n, p)  # cdf[r - 1] = F(r − 1)
    lower = int(np.searchsorted(cdf, alpha / 2, side="right"))
    upper = int(np.searchsorted(cdf, 1 - alpha / 2, side="left")) + 1
    return (lower, upper) if lower >= 1 and upper <= n else None


def quantile_interval(samples: np.ndarray, p: float, alpha: float = ALPHA) -> tuple[float, float] | None:
    """Return the interval of quantile p in the unit of the samples, or None if they are too few."""
    ranks = interval_ranks(len(samples), p, alpha)
    if ranks is None:
        return None
    ordered = np.sort(samples)
    return float(ordered[ranks[0] - 1]), float(ordered[ranks[1] - 1])


@lru_cache(maxsize=4096)
def _student(share: float, freedom: float) -> float:
    """Return a quantile of Student's distribution with these degrees of freedom."""
    from scipy.stats import t

    return float(t.ppf(share, freedom))


def mean_interval(samples: np.ndarray, alpha: float = ALPHA) -> tuple[float, float] | None:
    """Return Student's interval of the mean, mean ± t(n−1, 1−α/2) · s/√n, in the unit of the samples.

    It holds for independent samples. Return None below three samples.
    """
    if len(samples) < 3:
        return None
    reach = _student(1 - alpha / 2, len(samples) - 1) * float(samples.std(ddof=1)) / len(samples) ** 0.5
    return float(samples.mean()) - reach, float(samples.mean()) + reach


def across_interval(medians: np.ndarray, alpha: float = ALPHA) -> tuple[float, float, float] | None:
    """Return centre and interval of a positive quantity over processes, from one median of each, in their unit.

    exp(mean(log mⱼ) ± t(R−1, 1−α/2) · s/√R), s the standard deviation of the logarithms; None below two processes.
    """
    if len(medians) < 2 or not (np.asarray(medians) > 0).all():
        return None
    logs = np.log(medians)
    centre = float(logs.mean())
    reach = _student(1 - alpha / 2, len(logs) - 1) * float(logs.std(ddof=1)) / len(logs) ** 0.5
    return float(np.exp(centre)), float(np.exp(centre - reach)), float(np.exp(centre + reach))


def welch_ratio(base: np.ndarray, candidate: np.ndarray, alpha: float = ALPHA) -> tuple[float, float, float] | None:
    """Return the ratio candidate ÷ base and its interval, from one positive median of each process of both sides.

    exp(d ± t(ν, 1−α/2) · √(s²₁/R₁ + s²₂/R₂)), d the difference of the mean logarithms and ν by Welch and Satterthwaite:
    the sides may differ in spread and in size. None with fewer than two processes per side.
    """
    sides = [np.asarray(side, np.float64) for side in (base, candidate)]
    if min(map(len, sides)) < 2 or not all((side > 0).all() for side in sides):
        return None
    logs = [np.log(side) for side in sides]
    difference = float(logs[1].mean() - logs[0].mean())
    parts = [float(side.var(ddof=1)) / len(side) for side in logs]
    squares = sum(part**2 / (len(side) - 1) for part, side in zip(parts, logs, strict=True))
    freedom = sum(parts) ** 2 / squares if squares > 0 else np.inf
    reach = _student(1 - alpha / 2, freedom) * sum(parts) ** 0.5
    return float(np.exp(difference)), float(np.exp(difference - reach)), float(np.exp(difference + reach))


def outliers(samples: np.ndarray) -> tuple[int, int]:
    """Count the samples beyond Tukey's fences: mild (1.5 interquartile ranges) and far (3). No sample is removed."""
    if len(samples) < 4:
        return 0, 0
    low, high = np.quantile(samples, [0.25, 0.75])
    beyond = np.maximum(low - samples, samples - high) / (high - low or np.inf)
    far = int((beyond > 3).sum())
    return int((beyond > 1.5).sum()) - far, far


def least_samples(p: float, alpha: float = ALPHA) -> int:
    """Return the least number of samples for an interval of quantile p: p50 6, p90 36, p95 72, p99 368 at 95 %.

    All n samples are on one side of the quantile with probability max(p, 1 − p)ⁿ, which must not be above α/2.
    """
    return ceil(log(alpha / 2) / log(max(p, 1 - p)))


def autocorrelation(samples: np.ndarray) -> float:
    """Return the lag-1 autocorrelation, or 0 for a constant or very short series."""
    centred = samples - samples.mean()
    power = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / power if len(samples) > 2 and power > 0 else 0.0


def halves_ratio(samples: np.ndarray) -> float:
    """Return the ratio (≥ 1) of the medians of the two halves."""
    half = len(samples) // 2
    first, second = float(np.median(samples[:half])), float(np.median(samples[half:]))
    return max(first, second) / min(first, second)


def _binomial_cdf(n: int, p: float) -> np.ndarray:
    """Return F(0) … F(n−1) of Binomial(n, p), summed in logarithms so that large n neither under- nor overflow."""
    k = np.arange(n)
    choose = lgamma(n + 1) - np.array([lgamma(i + 1) + lgamma(n - i + 1) for i in range(n)])
    return np.cumsum(np.exp(choose + k * log(p) + (n - k) * log1p(-p)))
