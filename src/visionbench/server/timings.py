"""Seconds of the steps of requests, added up since the start of the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from time import perf_counter, process_time
from typing import Any

STEPS = ("receive", "parse", "decode", "preprocess", "wait", "respond")
"""The steps of one request, except the call of the model, which a batch shares. They overlap between requests."""


@dataclass
class Timings:
    """Sums over requests and batches. Several threads add to them."""

    started: float = field(default_factory=perf_counter)
    seconds: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    """The number of requests by the status of their response."""
    sizes: Counter[int] = field(default_factory=Counter)
    """The number of batches by size."""
    call_seconds: float = 0.0
    lock: Lock = field(default_factory=Lock)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of a block to a step."""
        start = perf_counter()
        try:
            yield
        finally:
            self.add(step, perf_counter() - start)

    def add(self, step: str, seconds: float) -> None:
        """Add seconds to a step."""
        with self.lock:
            self.seconds[step] += seconds  # type: ignore[assignment]

    def add_batch(self, size: int, seconds: float) -> None:
        """Add one call of the model."""
        with self.lock:
            self.sizes[size] += 1
            self.call_seconds += seconds

    def add_response(self, status: int) -> None:
        """Count a response."""
        with self.lock:
            self.requests[str(status)] += 1

    def reset(self) -> None:
        """Begin again, after the calls before the first request."""
        with self.lock:
            self.started, self.call_seconds = perf_counter(), 0.0
            for sums in (self.seconds, self.requests, self.sizes):
                sums.clear()

    def content(self) -> dict[str, Any]:
        """Return the sums. `utilization` is the share of the time in which the model was called."""
        with self.lock:
            elapsed = perf_counter() - self.started
            return {
                "elapsed_s": elapsed,
                "cpu_s": process_time(),
                "responses": dict(self.requests),
                "batches": {str(size): count for size, count in sorted(self.sizes.items())},
                "call_s": self.call_seconds,
                "utilization": self.call_seconds / elapsed if elapsed else 0.0,
                "step_s": {step: float(self.seconds[step]) for step in STEPS},
            }
