"""The limits of a run: the number of requests and their cost. A request that could pass a limit is not sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

from visionbench.core import Attempt, Prices
from visionbench.core.remote import ANSWERED, REFUSED

ROUNDING = 1e-9
"""The relative error of a sum of costs that does not count."""


@dataclass
class Budget:
    """Counts attempts and their cost, also those in flight. Several threads use it at once."""

    max_requests: int | None = None
    max_cost: float | None = None
    prices: Prices | None = None
    most_output_tokens: int | None = None
    """The most tokens of an answer, for the cost of a request in flight."""
    sent: int = 0
    spent: float = 0.0
    """The cost of the attempts that have ended. An attempt without a count of its tokens has the worst-case cost."""
    in_flight: int = 0
    most_input_tokens: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        self.most_input_tokens = self.prices.most_input_tokens if self.prices else 0

    def take(self) -> str | None:
        """Take one attempt out of the budget; return None, or the limit that it could pass."""
        with self._lock:
            if self.max_requests is not None and self.sent + 1 > self.max_requests:
                return f"remote.max_requests={self.max_requests:,} is reached"
            if self.max_cost is not None:
                worst = self.spent + (self.in_flight + 1) * self._worst()
                if worst > self.max_cost * (1 + ROUNDING):
                    currency = (self.prices.currency if self.prices else None) or ""
                    spent = f"{self.spent:.4g} {currency}".strip()
                    return f"remote.max_cost={self.max_cost:g}: {spent} are spent, and one more request could exceed it"
            self.sent += 1
            self.in_flight += 1
            return None

    def add(self, attempt: Attempt) -> None:
        """Add the cost of an attempt that has ended."""
        with self._lock:
            self.in_flight -= 1
            self.spent += self._cost(attempt)
            self.most_input_tokens = max(self.most_input_tokens, attempt.input_tokens or 0)

    def _cost(self, attempt: Attempt) -> float:
        if self.prices is None:
            return 0.0
        cost = cost_of(attempt, self.prices)
        return self._worst() if cost is None else cost

    def _worst(self) -> float:
        return self.prices.cost(self.most_input_tokens, self.most_output_tokens or 0) if self.prices else 0.0


def cost_of(attempt: Attempt, prices: Prices) -> float | None:
    """Return the cost of an attempt, or None if it is not known.

    An error status of HTTP costs nothing. Without a response, or without a count of its tokens, the cost is unknown.
    """
    if attempt.kind in (ANSWERED, REFUSED) or (attempt.status is not None and attempt.status < 300):
        counted = attempt.input_tokens is not None and attempt.output_tokens is not None
        by_tokens = prices.input_per_million_tokens or prices.output_per_million_tokens
        if by_tokens and not counted:
            return None
        return prices.cost(attempt.input_tokens or 0, attempt.output_tokens or 0)
    return 0.0 if attempt.status is not None else None
