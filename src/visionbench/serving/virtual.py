"""A server with dynamic batching in virtual time: the rule of `batching.py`, without threads and without a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from visionbench.serving.batching import BatchRecord, BatchRule


@dataclass(frozen=True)
class Simulation:
    """The queries of a simulated server, in the order of their arrival, and the batches that it formed."""

    arrived: np.ndarray
    started: np.ndarray
    """The start of the batch of each query."""
    ended: np.ndarray
    batches: tuple[BatchRecord, ...]

    @property
    def waiting_s(self) -> np.ndarray:
        """The time of each query from its arrival to the start of its batch."""
        waiting: np.ndarray = self.started - self.arrived
        return waiting

    @property
    def sojourn_s(self) -> np.ndarray:
        """The time of each query from its arrival to its answer."""
        sojourn: np.ndarray = self.ended - self.arrived
        return sojourn


def simulate(arrived: np.ndarray, rule: BatchRule, service_s: Callable[[int], float]) -> Simulation:
    """Serve queries with these arrival times, in ascending order, by one server that forms batches by the rule.

    `service_s` returns the time of a batch of a size. It is called once for each batch, in order.
    """
    times = [float(time) for time in arrived]
    count = len(times)
    started, ended = np.empty(count), np.empty(count)
    batches = []
    free, first = 0.0, 0
    while first < count:
        last = first + rule.max_batch - 1
        ready = rule.ready_at(times[first], times[last] if last < count else None)
        start = max(free, ready)
        after = first + 1
        while after < count and after - first < rule.max_batch and times[after] <= start:
            after += 1
        free = start + service_s(after - first)
        started[first:after], ended[first:after] = start, free
        batches.append(BatchRecord(start, free, after - first))
        first = after
    return Simulation(np.asarray(arrived, np.float64), started, ended, tuple(batches))
