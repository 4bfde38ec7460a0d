"""The wait before a request is sent again: what the endpoint requires, or an exponential wait with a random part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

FIRST_S = 0.5
"""The wait after the first failure, before the random part. It doubles after each further failure."""
MOST_DOUBLINGS = 30


def read_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds of the header Retry-After, a number or a date of HTTP; None without a valid one.

    `retry-after-ms`, which some endpoints send too, has precedence.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1e3
    text = headers.get("retry-after", "").strip()
    if (seconds := _number(text)) is not None:
        return seconds
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def choose_wait(failures: int, required_s: float | None, most_s: float, random: Random) -> float:
    """Return the seconds before the next attempt, after this number of failures of a request, at most `most_s`.

    Without a required wait, it is FIRST_S · 2^(failures − 1), times a random factor between 0.5 and 1. A required wait
    is kept; a random part of up to a tenth is added, so that not all requests return at the same moment.
    """
    if required_s is not None:
        return min(most_s, required_s * (1 + 0.1 * random.random()))
    factor = 2.0 ** min(failures - 1, MOST_DOUBLINGS)
    return min(most_s, FIRST_S * factor * (0.5 + 0.5 * random.random()))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
