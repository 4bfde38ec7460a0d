"""The times of the requests of a window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Generated:
    """The times of each request [requests] in seconds from the start of the window, in the order of the schedule."""

    scheduled_s: np.ndarray
    """When the request was to be sent. In a closed loop, when it was sent."""
    issued_s: np.ndarray
    """When the request was sent. NaN if it was not sent."""
    completed_s: np.ndarray
    """When its answer arrived. NaN if it has no answer."""

    @property
    def latency_s(self) -> np.ndarray:
        """The seconds [requests] from the schedule to the answer; NaN without an answer."""
        return self.completed_s - self.scheduled_s

    @property
    def late_s(self) -> np.ndarray:
        """The seconds [requests] by which the generator sent each request late."""
        return self.issued_s - self.scheduled_s
