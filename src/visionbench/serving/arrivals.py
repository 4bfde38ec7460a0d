"""Scheduled times of queries: seeded Poisson arrivals, and a constant rate."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np

POISSON, CONSTANT, CLOSED = "poisson", "constant", "closed"
ARRIVALS = (POISSON, CONSTANT, CLOSED)
"""The patterns of arrivals. With `closed`, a client sends the next query when the last one is answered."""


def poisson_times(rate: float, queries: int, seed: int) -> np.ndarray:
    """Return the first arrivals of a Poisson process, in seconds: the gaps are exponential with mean 1 ÷ rate.

    The same seed gives the same gaps, scaled by the rate. More queries begin with the same
    arrivals.
    """
    return np.cumsum(np.random.default_rng(seed).standard_exponential(queries)) / rate


def constant_times(rate: float, queries: int) -> np.ndarray:
    """Return arrivals in seconds at a constant rate, the first after one gap."""
    return np.arange(1, queries + 1) / rate


def scheduled_times(pattern: str, rate: float, queries: int, seed: int) -> np.ndarray:
    """Return the scheduled times of queries in seconds. A closed loop has none."""
    if pattern == POISSON:
        return poisson_times(rate, queries, seed)
    if pattern == CONSTANT:
        return constant_times(rate, queries)
    raise ValueError(f"{pattern} has no scheduled times")


def endless_times(pattern: str, rate: float, seed: int, chunk: int = 1024) -> Iterator[float]:
    """Yield the times of `scheduled_times` without an end."""
    random = np.random.default_rng(seed)
    total = 0.0
    for first in count(1, chunk):
        if pattern == POISSON:
            gaps = random.standard_exponential(chunk)
            gaps[0] += total
            sums = np.cumsum(gaps)
            total = float(sums[-1])
            yield from (sums / rate).tolist()
        else:
            yield from (np.arange(first, first + chunk) / rate).tolist()
