"""The search over configurations and batch sizes, on top of a function that measures.

A configuration is loaded once and measured at several batch sizes: first at the best size so far, then at larger sizes
while the score grows and no bound is broken, then at smaller sizes. All comparisons that prune use intervals:

cannot win      the upper end of the first size, times REACH, is below the lower end of the best one so far
variant         a configuration that differs only in threads or attention from one whose upper end, times VARIANT, is
                below the lower end of the best one so far, is not measured
no gain         a size that is not better than the best size of the configuration by GAIN ends a direction
invalid         two invalid sizes in a row end a direction
bounds          a larger size than one that breaks a bound is not measured

A score is the throughput, or 1 ÷ latency, so that a larger one is better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from visionbench.core import INVALID, KILLED, OK, OUT_OF_MEMORY, SKIPPED_AFTER_OOM
from visionbench.records.tuning import (
    BROKEN,
    FAILED,
    HELD,
    MEASURED,
    PRUNED,
    Figure,
    Measurement,
    Quality,
    Tried,
)
from visionbench.tuning.objectives import Limits, Objective, can_win, with_bounds
from visionbench.tuning.proposals import Proposal, Proposals
from visionbench.tuning.space import BASELINE_BATCH, Combination, Space

REACH = 1.5
"""The gain that other batch sizes of a configuration may have over its first one."""
VARIANT = 1.25
"""The gain that another number of threads or another attention may have."""
GAIN = 1.03
"""The gain of a doubled batch size below which the sizes beyond it are not measured."""
NEAR = 0.8
"""The share of the best score that a finalist must be able to have."""
NO_MEMORY = (OUT_OF_MEMORY, KILLED, SKIPPED_AFTER_OOM)
"""The statuses after which a smaller batch size may fit."""

Stop = Callable[[Measurement], str]
"""Receives a measurement, and returns the reason why no further size is measured, or an empty text."""


class Evaluator(Protocol):
    """Measures configurations."""

    def known(self, combination: Combination) -> Sequence[Measurement]:
        """Return the sizes that an earlier command has measured."""

    def measure(self, combination: Combination, sizes: Sequence[int], stop: Stop) -> None:
        """Measure these sizes in this order until `stop`, which is called for each size, returns a reason."""

    def quality(self, combination: Combination) -> Quality:
        """Return the quality of the precision and the runtime of a configuration, beside that of eager fp32."""


@dataclass
class Walk:
    """The batch sizes of one configuration."""

    search: Search
    results: dict[int, Measurement] = field(default_factory=dict)
    cannot_win: bool = False
    reasons: list[str] = field(default_factory=list)

    @property
    def best(self) -> Measurement | None:
        """The best size that is not invalid and breaks no bound."""
        return self.search.best_of(self.results.values())

    def add(self, measurement: Measurement) -> Measurement:
        """Store a measurement with the verdict on the bounds."""
        judged = with_bounds(measurement, self.search.limits)
        self.results[judged.batch_size] = judged
        return judged

    def climb(self, measurement: Measurement) -> str:
        """Return why no larger size is measured."""
        best = self.best
        measurement = self.add(measurement)
        reason = self._why_no_larger(measurement, best)
        if reason:
            self.reasons.append(reason)
        return reason

    def _why_no_larger(self, measurement: Measurement, best: Measurement | None) -> str:
        size = f"batch size {measurement.batch_size}"
        if measurement.status != OK:
            return f"{size}: {measurement.status.replace('_', ' ')}"
        if measurement.bounds == BROKEN:
            return f"{size}: {measurement.bounds_reason}"
        score = self.search.objective.score(measurement)
        if measurement.verdict == INVALID:
            return self._why_invalid(measurement)
        if score is None:
            return ""
        return self._why_not_better(score, best, size)

    def _why_invalid(self, measurement: Measurement) -> str:
        """Return why an invalid size ends a direction: the size before it is invalid, too."""
        before = [one for one in self.results.values() if one is not measurement][-1:]
        if not before or before[0].verdict != INVALID:
            return ""
        return f"invalid at batch sizes {before[0].batch_size} and {measurement.batch_size}"

    def _why_not_better(self, score: Figure, best: Measurement | None, size: str) -> str:
        """Return why a score ends a direction: it is much lower than the best so far, or `best` is as good."""
        if best is None:
            leader = self.search.leader_score()
            if leader is not None and score.ends[1] * REACH < leader.ends[0]:
                self.cannot_win = True
                return f"cannot win: {score.value / leader.value:.0%} of the best so far at {size}"
            return ""
        known = self.search.objective.score(best)
        no_gain = known is not None and score.value < known.value * GAIN
        return f"no gain from batch size {best.batch_size} to {size}" if no_gain else ""

    def descend(self, measurement: Measurement) -> str:
        """Return why no smaller size is measured."""
        best = self.best
        measurement = self.add(measurement)
        size = f"batch size {measurement.batch_size}"
        reason = ""
        if measurement.status != OK:
            reason = "" if measurement.status in NO_MEMORY else f"{size}: {measurement.status.replace('_', ' ')}"
        elif can_win(measurement, self.search.objective):
            score = self.search.objective.score(measurement)
            assert score is not None
            reason = self._why_not_better(score, best, size)
        elif measurement.verdict == INVALID:
            reason = self._why_invalid(measurement)
        if reason:
            self.reasons.append(reason)
        return reason

    def may_descend(self, start: int) -> bool:
        """Return whether smaller sizes than the first may be better."""
        if self.cannot_win or not self.results:
            return False
        statuses = {one.status for one in self.results.values()} - {OK}
        if statuses - set(NO_MEMORY):
            return False
        return self.best is None or self.best.batch_size <= start


@dataclass
class Search:
    """A search over the configurations of a space, until the budget or the space ends."""

    space: Space
    objective: Objective
    limits: Limits
    budget: int
    """The number of batch sizes that may be measured, those of earlier commands included."""
    evaluator: Evaluator
    proposals: Proposals
    show: Callable[[Combination, Tried], None] = lambda combination, tried: None
    tried: dict[Combination, Tried] = field(default_factory=dict)
    unfit: dict[tuple[str, str], str] = field(default_factory=dict)
    """The precisions and runtimes that do not hold the bound of quality, each with the reason."""
    qualities: dict[tuple[str, str], Quality] = field(default_factory=dict)

    # -------------------------------------------------------------------------------------------------- the best so far
    def best_of(self, measurements: Iterable[Measurement]) -> Measurement | None:
        """Return the best of the measurements that can win, or None."""
        able = [one for one in measurements if can_win(one, self.objective)]
        return max(able, key=lambda one: self._score(one).value, default=None)

    def _score(self, measurement: Measurement) -> Figure:
        score = self.objective.score(measurement)
        assert score is not None
        return score

    def ranked(self) -> Iterator[tuple[Combination, Measurement]]:
        """Yield the best size of each configuration, the best configuration first.

        If its bounds are not decided, the best size whose bounds are held follows separately.
        """
        entries = []
        for combination, tried in self.tried.items():
            if combination.pair in self.unfit:
                continue
            best = self.best_of(tried.measured)
            held = self.best_of([one for one in tried.measured if one.bounds == HELD])
            entries += [(combination, one) for one in dict.fromkeys((best, held)) if one is not None]
        yield from sorted(entries, key=lambda entry: -self._score(entry[1]).value)

    def leader(self) -> tuple[Combination, Measurement] | None:
        """Return the best configuration so far whose bounds are certainly held, or None."""
        for combination, measurement in self.ranked():
            quality_known = self.limits.quality is None or combination.pair in self.qualities
            if measurement.bounds == HELD and quality_known:
                return combination, measurement
        return None

    def leader_score(self) -> Figure | None:
        """Return the score of the best configuration so far."""
        leader = self.leader()
        return None if leader is None else self._score(leader[1])

    @property
    def left(self) -> int:
        """The number of batch sizes that may still be measured."""
        return self.budget - sum(len(one.measured) for one in self.tried.values())

    # --------------------------------------------------------------------------------------------------------- the loop
    def run(self) -> None:
        """Try configurations until the budget is used or each was tried."""
        while self.left > 0:
            proposal = self.proposals.next(self._scores())
            if proposal is None:
                return
            reason = self._why_not_measured(proposal.combination)
            tried = Tried(proposal.combination.values, PRUNED, reason) if reason else self._try(proposal.combination)
            self._end(proposal, tried)

    def restore(self, combination: Combination, tried: Tried) -> None:
        """Add a configuration that an earlier command has tried."""
        self.tried[combination] = tried
        if tried.quality is not None:
            self._add_quality(combination, tried.quality)

    def _end(self, proposal: Proposal, tried: Tried) -> None:
        self.tried[proposal.combination] = tried
        score = self._scores()[proposal.combination]
        steps = [
            (one.batch_size, self._score(one).value) for one in tried.measured if self.objective.score(one) is not None
        ]
        self.proposals.tell(proposal, score, steps, tried.reason)
        self.show(proposal.combination, tried)

    def _scores(self) -> dict[Combination, float | None]:
        scores: dict[Combination, float | None] = {}
        for combination, tried in self.tried.items():
            best = None if combination.pair in self.unfit else self.best_of(tried.measured)
            scores[combination] = None if best is None else self._score(best).value
        return scores

    def _why_not_measured(self, combination: Combination) -> str:
        """Return why a configuration is not measured, by the results of those with the same precision and runtime."""
        if combination.pair in self.unfit:
            return self.unfit[combination.pair]
        related = {other: tried for other, tried in self.tried.items() if other.pair == combination.pair}
        for other, tried in related.items():
            if tried.outcome == FAILED and other.attention == combination.attention:
                return f"{other} failed"
        leader = self.leader_score()
        bests = [best for tried in related.values() if (best := self.best_of(tried.measured)) is not None]
        if leader is None or not bests:
            return ""
        reach = max(self._score(best).ends[1] for best in bests)
        if reach * VARIANT < leader.ends[0]:
            share = max(self._score(best).value for best in bests) / leader.value
            return f"cannot win: with other threads, attention or memory format {share:.0%} of the best so far"
        return ""

    def _try(self, combination: Combination) -> Tried:
        """Measure a configuration at several batch sizes."""
        walk, start = Walk(self), self.start_size()
        stopped = ""
        for measurement in sorted(self.evaluator.known(combination), key=lambda one: one.batch_size):
            stopped = walk.climb(measurement)
        start = min(walk.results, default=start)
        larger = [size for size in self.space.sizes if size >= start and size not in walk.results]
        larger = [size for size in larger if size > max(walk.results, default=0)][: self.left - len(walk.results)]
        if larger and not stopped:
            self.evaluator.measure(combination, larger, walk.climb)
        smaller = [size for size in reversed(self.space.sizes) if size < start][: self.left - len(walk.results)]
        if smaller and walk.may_descend(start):
            self.evaluator.measure(combination, smaller, walk.descend)
        return self._outcome(combination, walk)

    def start_size(self) -> int:
        """Return the batch size that is measured first: the best one so far, or that of the tutorial."""
        leader = self.leader()
        size = leader[1].batch_size if leader else BASELINE_BATCH
        return min(self.space.sizes, key=lambda one: (abs(one - size), one))

    def _outcome(self, combination: Combination, walk: Walk) -> Tried:
        measured = tuple(walk.results[size] for size in sorted(walk.results))
        numbers = [one for one in measured if one.status == OK]
        outcome = PRUNED if walk.cannot_win else MEASURED if numbers else FAILED
        reason = "; ".join(dict.fromkeys(walk.reasons))
        if not numbers and measured:
            reason = measured[0].reason or reason
        tried = Tried(combination.values, outcome, reason, measured)
        return replace(tried, quality=self._quality_of(combination, walk))

    # ---------------------------------------------------------------------------------------------------------- quality
    def _quality_of(self, combination: Combination, walk: Walk) -> Quality | None:
        """Return the quality, which is measured only if a bound needs it and the configuration may be the best."""
        best = walk.best
        if self.limits.quality is None or best is None or walk.cannot_win:
            return None
        leader = self.leader_score()
        if leader is not None and self._score(best).ends[1] < leader.ends[0]:
            return None
        return self.quality(combination)

    def quality(self, combination: Combination) -> Quality:
        """Return the quality of the precision and the runtime, measured once."""
        if combination.pair not in self.qualities:
            self._add_quality(combination, self.evaluator.quality(combination))
        return self.qualities[combination.pair]

    def _add_quality(self, combination: Combination, quality: Quality) -> None:
        self.qualities[combination.pair] = quality
        if self.limits.quality is not None and quality.bound != HELD:
            self.unfit[combination.pair] = quality.reason or "the bound of quality is not held"

    # -------------------------------------------------------------------------------------------------------- finalists
    def finalists(self, count: int) -> list[tuple[Combination, Measurement]]:
        """Return the best configurations, of which at least one certainly holds the bounds if there is one.

        The quality of each is measured if a bound needs it. Those that are much slower than the best are left out.
        """
        chosen: list[tuple[Combination, Measurement]] = []
        reserve: tuple[Combination, Measurement] | None = None
        for combination, measurement in list(self.ranked()):
            if self.limits.quality is not None and self.quality(combination).bound != HELD:
                continue
            if chosen and self._is_far(measurement, chosen):
                if reserve is None and measurement.bounds == HELD:
                    reserve = combination, measurement
                continue
            if len(chosen) < count:
                chosen.append((combination, measurement))
            elif reserve is None and measurement.bounds == HELD:
                reserve = combination, measurement
            if len(chosen) == count and (reserve or any(one.bounds == HELD for _, one in chosen)):
                break
        if reserve is not None and not any(one.bounds == HELD for _, one in chosen):
            chosen = [*chosen[: count - 1], reserve] if len(chosen) >= count > 1 else [*chosen, reserve]
        return chosen

    def _is_far(self, measurement: Measurement, chosen: Sequence[tuple[Combination, Measurement]]) -> bool:
        """Return whether a measurement is much slower than one that certainly holds the bounds."""
        held = [self._score(one) for _, one in chosen if one.bounds == HELD]
        return any(self._score(measurement).ends[1] < NEAR * one.ends[0] for one in held)
