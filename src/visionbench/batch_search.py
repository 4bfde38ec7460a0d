"""The search of batch=auto: the largest batch size that fits into the memory, by trials in fresh processes.

find_largest        the search itself, over a function that tries one size
search_in_processes the search with `measuring.try_batch`, a fresh process for each size

Sizes are tried in steps: 1 up to size 64, 2 up to 128, 4 up to 256, and so on, so that a step is at most 4 % of a
larger size.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from visionbench import measuring, worker
from visionbench.config import ExperimentConfig
from visionbench.core import KILLED, OUT_OF_MEMORY, BatchSearch, Case, MemoryLimit, RunPlan
from visionbench.measuring import BatchTrial, StageProgress

MIB = 2**20
FINEST = 64
"""The size up to which each size is a step. Between a larger size and its double there are half as many steps."""
MOST_MISSES = 2
"""The number of predictions in a row that may neither double the size nor halve the remaining sizes, before the search
doubles or bisects without one."""
STAGE = "search"
"""The stage of a run's progress and of its times."""


@dataclass(frozen=True)
class Trial:
    """A batch size that was tried."""

    size: int
    peak_bytes: float | None
    """The peak of the memory, or None if the size ran out of memory."""
    fits: bool
    status: str = ""
    """`out_of_memory` or `killed`, if the trial had no peak."""

    def __str__(self) -> str:
        """Return a text such as `16: 512.3 MiB` or `32: out of memory`."""
        if self.peak_bytes is None:
            return f"{self.size}: {self.status.replace('_', ' ')}"
        return f"{self.size}: {self.peak_bytes / MIB:,.1f} MiB{'' if self.fits else ' (too much)'}"


class TrialFailed(Exception):
    """A trial that ended for another reason than its memory."""

    def __init__(self, size: int, reason: str) -> None:
        super().__init__(reason)
        self.size, self.reason = size, reason


def steps(largest: int) -> list[int]:
    """Return the sizes that a search may try, from 1 to the largest."""
    sizes, size = [], 1
    while size < largest:
        sizes.append(size)
        size += max(1, 2 ** size.bit_length() // FINEST)
    return [*sizes, largest]


def find_largest(try_size: Callable[[int], Trial], largest: int, usable_bytes: Callable[[], float]) -> list[Trial]:
    """Try sizes until one fits and the next step does not, or the largest fits. Return the trials in their order.

    The sizes are doubled, then bisected. If two sizes have shown how the memory grows, the next size is the largest
    one that should fit, so that a search needs few trials and no trial needs much more memory than the limit.
    `usable_bytes` returns the limit; it is called after the first trial.
    """
    sizes = steps(largest)
    trials: list[Trial] = []
    fitting, too_large, misses = -1, len(sizes), 0
    while too_large - fitting > 1:
        index = _next_by_size(sizes, fitting, too_large)
        predicted = _predict(trials, usable_bytes()) if trials and misses < MOST_MISSES else None
        if predicted is not None:
            # a prediction never goes beyond the double of the largest size that fits
            index = max(fitting + 1, min(bisect_right(sizes, predicted) - 1, too_large - 1, _doubled(sizes, fitting)))
        remaining, doubled = too_large - fitting, _doubled(sizes, fitting)
        trial = try_size(sizes[index])
        trials.append(trial)
        if trial.fits:
            fitting = index
        else:
            too_large = index
        progressed = too_large - fitting <= remaining / 2 or fitting >= doubled
        misses = misses + 1 if predicted is not None and not progressed else 0
    return trials


def _next_by_size(sizes: Sequence[int], fitting: int, too_large: int) -> int:
    """Return the index of the doubled size, or of the middle if a size is known to be too large."""
    return _doubled(sizes, fitting) if too_large == len(sizes) else (fitting + too_large) // 2


def _doubled(sizes: Sequence[int], fitting: int) -> int:
    """Return the index of the double of the largest size that fits, or of the last size."""
    return 0 if fitting < 0 else bisect_right(sizes, 2 * sizes[fitting]) - 1


def _predict(trials: Sequence[Trial], usable_bytes: float) -> float | None:
    """Return the size at which the memory should reach the limit, by the two measured sizes that are nearest to it.

    Return None if fewer than two sizes were measured, or if the memory did not grow between them.
    """
    peaks = {trial.size: trial.peak_bytes for trial in trials if trial.peak_bytes is not None}
    nearest = sorted(peaks, key=lambda size: abs(peaks[size] - usable_bytes))[:2]
    if len(nearest) < 2:
        return None
    low, high = sorted(nearest)
    growth = (peaks[high] - peaks[low]) / (high - low)
    return high + (usable_bytes - peaks[high]) / growth if growth > 0 else None


# ------------------------------------------------------------------------------------------------------ in processes
def search_in_processes(
    config: ExperimentConfig,
    plan: RunPlan,
    case: Case,
    left_out: Mapping[str, str],
    log: Path,
    show: Callable[[StageProgress], None],
) -> BatchSearch:
    """Find the largest batch size of a case that fits, with a fresh process for each trial.

    Raises ConfigError if a trial finds that the configuration is wrong.
    """
    batch = config.batch
    limits: list[MemoryLimit] = []

    def usable() -> float:
        return min(limits, key=lambda limit: limit.bytes).bytes * (1 - batch.margin)

    if batch.max_memory_mib is not None:
        limits.append(MemoryLimit(batch.max_memory_mib * MIB, "batch.max_memory_mib"))

    def try_size(size: int) -> Trial:
        show(StageProgress(STAGE, f"batch-{size}"))
        result: BatchTrial | None = None
        try:
            stream = worker.stream(measuring.try_batch, config, plan, case.of_size(size), left_out, log=log)
            with closing(stream) as events:
                for event in events:
                    if isinstance(event, MemoryLimit) and all(known.source != event.source for known in limits):
                        limits.append(event)
                    elif isinstance(event, BatchTrial):
                        result = event
        except worker.WorkerKilled:
            return Trial(size, None, False, KILLED)
        except (worker.WorkerDied, worker.WorkerFailed) as failure:
            raise TrialFailed(size, f"{failure.problem}; the output is in {log}") from failure
        if result is None or (not result.out_of_memory and result.peak_bytes is None):
            raise TrialFailed(size, "the device gives no peak of its memory; give batch.sizes instead")
        if result.out_of_memory:
            return Trial(size, None, False, OUT_OF_MEMORY)
        assert result.peak_bytes is not None
        return Trial(size, result.peak_bytes, result.peak_bytes <= usable())

    trials: list[Trial] = []

    def remember(size: int) -> Trial:
        trials.append(try_size(size))
        return trials[-1]

    try:
        find_largest(remember, batch.largest, usable)
    except TrialFailed as failed:
        reason = f"batch=auto: the trial of batch size {failed.size} failed: {failed.reason}"
        return BatchSearch(f"batch-{failed.size}", failed.size, _labels(trials, limits, batch.margin), reason)
    labels = _labels(trials, limits, batch.margin)
    best = max((trial.size for trial in trials if trial.fits), default=None)
    if best is None:
        return BatchSearch("batch-1", 1, labels, f"batch=auto: batch size 1 does not fit ({_why(trials[-1], labels)})")
    return BatchSearch(f"batch-{best}", best, labels)


def _why(trial: Trial, labels: Mapping[str, str]) -> str:
    if trial.peak_bytes is None:
        return trial.status.replace("_", " ")
    return f"{trial.peak_bytes / MIB:,.1f} MiB, and the limit is {labels['batch_limit']}"


def _labels(trials: Sequence[Trial], limits: Sequence[MemoryLimit], margin: float) -> dict[str, str]:
    """Return the labels of the row: what was requested, the limit with its origin, and the sizes that were tried."""
    labels = {"batch_requested": "auto"}
    if limits:
        limit = min(limits, key=lambda one: one.bytes)
        size, usable = limit.bytes / MIB, limit.bytes * (1 - margin) / MIB
        labels["batch_limit"] = f"{usable:,.1f} MiB: {size:,.1f} MiB ({limit.source}) without a margin of {margin:.0%}"
    labels["batch_tried"] = "; ".join(map(str, trials))
    return labels
