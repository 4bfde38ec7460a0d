"""Whether latencies depend on the length of the window, because the queue grew or did not settle."""

from __future__ import annotations

import numpy as np

LEAST_SHARE = 0.05
"""The queue grows if at least this share of the queries of a window still waits at its end."""
LEAST_BATCHES = 2
"""At least this number of largest batches must wait."""
MIDDLE = (0.25, 0.7)
"""The length of a growing queue in the middle of the window, as shares of the length at the end: about one half."""


SETTLED, DRIFT = 2.0, 1.25
"""Ratios of the median latencies of the halves of a window: from the first one on, the queue did not settle; from the
second one on, the row has a doubt."""


def backlog(scheduled_s: np.ndarray, completed_s: np.ndarray, time_s: float) -> int:
    """Return the number of queries that were scheduled by a time and not answered by it."""
    arrived = scheduled_s <= time_s
    return int(arrived.sum() - (completed_s[arrived] <= time_s).sum())


def queue_grows(scheduled_s: np.ndarray, completed_s: np.ndarray, max_batch: int) -> bool:
    """Return whether the queue grew from the begin of a window to the arrival of its last query.

    The arrays have the queries of the window in order. A query that is not answered has NaN or infinity.
    """
    if not is_long_at_end(scheduled_s, completed_s, max_batch):
        return False
    end = float(scheduled_s[-1])
    in_middle = backlog(scheduled_s, completed_s, end / 2) / backlog(scheduled_s, completed_s, end)
    return MIDDLE[0] <= in_middle <= MIDDLE[1]


def is_long_at_end(scheduled_s: np.ndarray, completed_s: np.ndarray, max_batch: int) -> bool:
    """Return whether the queue is long when the last query of a window arrives. Arrays as in `queue_grows`."""
    if not len(scheduled_s):
        return False
    at_end = backlog(scheduled_s, completed_s, float(scheduled_s[-1]))
    return at_end > max(LEAST_BATCHES * max_batch, LEAST_SHARE * len(scheduled_s))


def drift(latency_s: np.ndarray) -> float:
    """Return the ratio of the median latencies of the halves of a window, at least 1; 1 without two queries.

    `latency_s` has the latencies in the order of the queries. A query without an answer has NaN, and is left out.
    """
    known = latency_s[~np.isnan(latency_s)]
    if len(known) < 2:
        return 1.0
    first, second = (float(np.median(half)) for half in np.array_split(known, 2))
    return max(first, second) / max(min(first, second), 1e-12)
