"""Times of day in UTC. Those of one run come from one clock, so that their differences are durations."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

MOVED_S = 1.0
"""Smaller differences come from the reading of two clocks, and from NTP, which corrects a clock slowly."""


def monotonic_s() -> float:
    """Return the seconds of a clock that cannot be set. If possible, it counts the time of a suspended machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def now() -> str:
    """Return the time of day of the machine in UTC, as ISO 8601."""
    return _text(time.time())


@dataclass
class WallClock:
    """A wall clock that is read once and then advances with the monotonic clock."""

    wall_s: float = field(default_factory=time.time)
    monotonic_s: float = field(default_factory=monotonic_s)
    _offset_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._offset_s = self.wall_s - self.monotonic_s

    def now(self) -> str:
        """Return the time of day in UTC, as ISO 8601."""
        return _text(self.wall_s + monotonic_s() - self.monotonic_s)

    def moved_s(self) -> float:
        """Return by how many seconds the machine's wall clock was set since the last call; 0 for a small change."""
        offset = time.time() - monotonic_s()
        moved = offset - self._offset_s
        if abs(moved) < MOVED_S:
            return 0.0
        self._offset_s = offset
        return moved


def _text(seconds: float) -> str:
    """Return a time in seconds since 1970 as ISO 8601 with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
