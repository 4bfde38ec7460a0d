"""Scheduled times of queries: seeded Poisson arrivals, and a constant rate."""

from __future__ import annotations

import numpy as np

POISSON, CONSTANT, CLOSED = "poisson", "constant", "closed"
ARRIVALS = (POISSON, CONSTANT, CLOSED)
"""The patterns of arrivals. With `closed`, a client sends the next query when the last one is answered."""


def poisson_times(rate: float, count: int, seed: int) -> np.ndarray:
    """Return the first arrivals of a Poisson process, in seconds: the gaps are exponential with mean 1 ÷ rate.

    The same seed gives the same gaps, scaled by the rate. A larger count gives the same arrivals and further ones.
    """
    return np.cumsum(np.random.default_rng(seed).standard_exponential(count)) / rate


def constant_times(rate: float, count: int) -> np.ndarray:
    """Return arrivals in seconds at a constant rate, the first after one gap."""
    return np.arange(1, count + 1) / rate


def scheduled_times(pattern: str, rate: float, count: int, seed: int) -> np.ndarray:
    """Return the scheduled times of queries in seconds. A closed loop has none."""
    if pattern == POISSON:
        return poisson_times(rate, count, seed)
    if pattern == CONSTANT:
        return constant_times(rate, count)
    raise ValueError(f"{pattern} has no scheduled times")
