"""The search for the largest load within a bound: double the load until it fails, then bisect.

A load holds if the share of its requests within the bound is at least the required share, with its complete 95 %
interval; it fails if the complete interval is below. Other loads are undecided. The result is therefore an interval:
from the largest load that holds to the smallest load that fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from visionbench.statistics.resampling import wilson

BLOCKS = 20
"""The blocks of successive requests from which their correlation is estimated."""
LEAST_REQUESTS = 200
"""With fewer requests, a share has no interval."""
FAR_BELOW = 0.1
"""The share of the bound below which the differences between latencies are not counted."""
NEGLIGIBLE = 0.02
"""The standard deviation, as a share of the bound, of changes of the latency that cannot exceed the bound."""
STUDENT_ALPHA = 0.0364
"""The error of the normal distribution at the 97.5 % quantile of Student's distribution with `BLOCKS` − 1 degrees of
freedom, because the correlation is estimated from `BLOCKS` values."""
DIGITS = 3
"""The significant digits of a load."""
CLIFF = 0.5
"""The curve has a cliff if a load holds even this part of the bound, and at the next load fewer than this share of the
requests are within the bound."""


@dataclass(frozen=True)
class Share:
    """The share of the requests within a bound, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def share_within(latency_s: np.ndarray, bound_s: float) -> Share:
    """Return the share of requests whose latency is within the bound, with its interval.

    `latency_s` [requests] has the requests in the order of their arrival. A request without an answer has NaN or
    infinity, and is not within the bound.

    Successive requests wait in the same queue, so they are correlated: `n` requests have the information of fewer
    independent ones. The interval is Wilson's for n ÷ f requests. The factor f ≥ 1 is the variance of the means of
    `BLOCKS` blocks of requests, relative to independent requests (the method of batch means; Law, Simulation Modeling
    and Analysis, section 9.5.3). It is the larger factor of two series: whether requests are within the bound, and
    their latencies from `FAR_BELOW` of the bound to the bound, because the few requests beyond a bound are too few to
    show their correlation. A change of the latency that is small beside the bound, such as by the clock rate, cannot
    exceed the bound. The variance of a random time of `NEGLIGIBLE` of the bound is therefore added to the latencies.
    """
    latency = np.where(np.isnan(latency_s), inf, latency_s)
    within = latency <= bound_s
    count, value = len(within), float(within.mean()) if len(within) else 0.0
    if count < LEAST_REQUESTS:
        return Share(value, 0.0, 1.0)
    negligible = (NEGLIGIBLE * bound_s) ** 2
    inflation = max(
        variance_inflation(within), variance_inflation(np.clip(latency, FAR_BELOW * bound_s, bound_s), negligible)
    )
    interval = wilson(value, count / inflation, STUDENT_ALPHA)
    return Share(value, float(interval[0]), float(interval[1]))


def variance_inflation(values: np.ndarray, independent: float = 0.0) -> float:
    """Return the variance of the mean of correlated values ÷ that of independent values, at least 1.

    `independent` is the variance of an independent part that is added to each value.
    """
    values = values.astype(np.float64)
    spread = float(values.var()) + independent
    if spread == 0:
        return 1.0
    length = len(values) // BLOCKS
    means = values[: length * BLOCKS].reshape(BLOCKS, length).mean(axis=1)
    return max(1.0, (float(means.var(ddof=1)) * length + independent) / spread)


@dataclass(frozen=True)
class Trial:
    """One load that was measured, and whether it holds the bound."""

    load: float
    share: Share
    """The requests within the bound."""
    required: float
    """The share that must be within the bound, such as 0.99."""
    stable: bool = True
    """Whether the server answered requests as fast as they arrived. A load whose queue grows fails."""
    settled: bool = True
    """Whether the latencies do not depend on the length of the window. Otherwise the load can fail, but not hold."""
    half: Share | None = None
    """The requests within `CLIFF` of the bound."""

    @property
    def holds(self) -> bool | None:
        """Whether the load holds the bound; None if it is undecided."""
        if not self.stable or self.share.high < self.required:
            return False
        return True if self.settled and self.share.low >= self.required else None


@dataclass(frozen=True)
class SearchRule:
    """The first load, and where the search ends."""

    start: float
    """The first load in requests per second."""
    precision: float = 0.05
    """The search ends if the smallest load that fails exceeds the largest one that holds by at most this fraction."""
    most_loads: int = 16
    smallest: float = 1e-3
    largest: float = 1e6


@dataclass(frozen=True)
class Boundary:
    """The result of a search. `low` or `high` is None if no load holds or no load fails."""

    low: float | None
    """The largest load that holds, below all loads that fail."""
    high: float | None
    """The smallest load that fails."""
    undecided: tuple[float, ...]
    statement: str
    """The result in words: what is open, whether the curve has a cliff, and whether the decisions contradict."""
    contradicts: bool = False
    """Whether a load failed although a larger load holds."""


class LoadSearch:
    """The state of a search: measure `next_load()` and `add` its trial, until there is no next load."""

    def __init__(self, rule: SearchRule) -> None:
        self.rule = rule
        self.trials: list[Trial] = []

    def add(self, trial: Trial) -> None:
        """Add the trial of a load."""
        self.trials.append(trial)

    def next_load(self) -> float | None:
        """Return the next load in requests per second, or None if the search has ended."""
        if len(self.trials) >= self.rule.most_loads:
            return None
        loads = [trial.load for trial in self.trials]
        if not loads:
            return rounded(min(max(self.rule.start, self.rule.smallest), self.rule.largest))
        low, high = self._ends()
        if high is None:
            return self._new(min(max(loads) * 2, self.rule.largest), above=max(loads))
        if low is None:
            return self._new(max(min(loads) / 2, self.rule.smallest), below=min(loads))
        undecided = [load for load in sorted(loads) if low < load < high]
        gaps = [(low, undecided[0] if undecided else high), (undecided[-1] if undecided else low, high)]
        below, above = max(gaps, key=lambda gap: gap[1] / gap[0])
        if above / below <= 1 + self.rule.precision:
            return None
        return self._new(sqrt(below * above), above=below, below=above)

    def result(self) -> Boundary:
        """Return the result of the trials so far."""
        low, high = self._ends()
        by_load = {trial.load: trial for trial in self.trials}
        undecided = tuple(sorted(load for load, trial in by_load.items() if trial.holds is None))
        contradiction = self._contradiction()
        sentences = [
            self._range(low, high),
            _cliff(by_load.get(low or 0), by_load.get(high or 0)),
            f"undecided at {_listed(undecided)} requests/s" if undecided else "",
            contradiction,
        ]
        return Boundary(low, high, undecided, "; ".join(filter(None, sentences)), bool(contradiction))

    def _ends(self) -> tuple[float | None, float | None]:
        high = min((trial.load for trial in self.trials if trial.holds is False), default=None)
        holding = [trial.load for trial in self.trials if trial.holds and (high is None or trial.load < high)]
        return max(holding, default=None), high

    def _new(self, load: float, above: float = 0.0, below: float = inf) -> float | None:
        """Return the load with few digits, or None if it is not between these loads."""
        load = rounded(load)
        return load if above < load < below else None

    def _range(self, low: float | None, high: float | None) -> str:
        if low is None and high is None:
            return "no load was decided"
        if low is None:
            return f"no load that was tried holds the bound, the smallest is {high:g} requests/s"
        if high is None:
            return f"no load that was tried fails, the largest that holds is {low:g} requests/s"
        return ""

    def _contradiction(self) -> str:
        failed = min((trial.load for trial in self.trials if trial.holds is False), default=inf)
        held = max((trial.load for trial in self.trials if trial.holds), default=0.0)
        if held < failed:
            return ""
        return f"{failed:g} requests/s fails although {held:g} holds: the machine was disturbed"


def rounded(load: float) -> float:
    """Return a load with `DIGITS` significant digits."""
    return float(f"{load:.{DIGITS}g}")


def _cliff(low: Trial | None, high: Trial | None) -> str:
    """Return a sentence if the latency rises from far below the bound to far above it between two loads."""
    if low is None or high is None or low.half is None or low.half.low < low.required:
        return ""
    if high.stable and high.share.value >= CLIFF:
        return ""
    end = "the queue grows" if not high.stable else f"only {high.share.value:.0%} are within the bound"
    return f"cliff: at {low.load:g} requests/s even half of the bound holds, at {high.load:g} {end}"


def _listed(loads: Sequence[float]) -> str:
    return ", ".join(f"{load:g}" for load in loads)
