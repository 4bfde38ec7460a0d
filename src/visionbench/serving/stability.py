"""Whether a queue grew for a complete window, so that latencies depend only on the length of the window."""

from __future__ import annotations

import numpy as np

LEAST_SHARE = 0.05
"""The queue grows if at least this share of the queries of a window still waits at its end."""
LEAST_BATCHES = 2
"""At least this number of largest batches must wait."""
MIDDLE = (0.25, 0.7)
"""The length of a growing queue in the middle of the window, as shares of the length at the end: about one half."""


def backlog(scheduled_s: np.ndarray, completed_s: np.ndarray, time_s: float) -> int:
    """Return the number of queries that were scheduled by a time and not answered by it."""
    arrived = scheduled_s <= time_s
    return int(arrived.sum() - (completed_s[arrived] <= time_s).sum())


def queue_grows(scheduled_s: np.ndarray, completed_s: np.ndarray, max_batch: int) -> bool:
    """Return whether the queue grew from the begin of a window to the arrival of its last query.

    The arrays have the queries of the window in order. A query that is not answered has NaN or infinity.
    """
    if not len(scheduled_s):
        return False
    end = float(scheduled_s[-1])
    at_end = backlog(scheduled_s, completed_s, end)
    if at_end <= max(LEAST_BATCHES * max_batch, LEAST_SHARE * len(scheduled_s)):
        return False
    in_middle = backlog(scheduled_s, completed_s, end / 2) / at_end
    return MIDDLE[0] <= in_middle <= MIDDLE[1]
