"""Intervals of quality metrics over images, and the difference of two results on the same images.

A metric is a function of sums over images (`core.Contributions`), so a resample is a row of weights times the
contributions. The resamples draw images, not captions or instances, because those of one image belong together. If a
file assigns images to clusters (videos, patients), the resamples draw clusters.

A proportion has Wilson's interval (Wilson 1927), because the bootstrap of 100 hits in 100 has no width. If an image has
several tries, their number is divided by the design effect (Kish 1965). An average over classes has the basic bootstrap
interval, which is the percentile interval reflected at the value: a resample misses some images of a class, so its
average is too low, and with few images per class the percentile interval is below the value. Any other metric has the
BCa bootstrap interval (Efron 1987). A difference of hits is tested with McNemar's exact test and has Tango's score
interval (Tango 1998). Any other difference has the percentile bootstrap interval.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from visionbench.core import ConfigError, Contributions, Metrics, Samples, interval_ends
from visionbench.statistics.timings import ALPHA

RESAMPLES, SEED = 2000, 0
DECIDING_ALPHA = 0.01
"""The level of the interval that must exclude zero if a difference counts as shown."""
CELLS = 2**22
"""Weights in memory at once: 32 MiB."""
CACHED_CELLS = 2**25
"""Weights of one byte that are cached for the next metric: up to 16,000 images."""
DIGITS = 9
"""Decimals of an interval end. Rounding removes the effect of a machine's order of summation."""
CLUSTER = "evaluation/cluster_index"
"""The series with the cluster of each image."""

NO_INTERVAL = "no interval, because all images contribute the same or there are fewer than two"
NO_CONTRIBUTIONS = "the samples have no contributions of single images"

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """Candidate − base over the same images."""

    value: float
    interval: Interval | None
    """The 95 % interval, or None if there is none."""
    deciding: Interval | None
    """The interval at the deciding level, 99 % or above."""
    shown: bool
    """Whether the difference is significant at that level."""
    differing: int
    """The number of images (or clusters) whose contributions differ."""
    count: int
    """The number of images (or clusters), or of tries in McNemar's test."""
    method: str


# --------------------------------------------------------------------------------------------------------- one result
def value_with_interval(metric: str, values: Mapping[str, float | None]) -> tuple[float, Interval | None] | None:
    """Return the value of a metric with its interval if it has one, or None without a value."""
    value, low, high = (values.get(name) for name in (metric, *interval_ends(metric)))
    if value is None:
        return None
    return value, (low, high) if low is not None and high is not None else None


def interval_text(value: float, interval: Interval | None, digits: int = 3) -> str:
    """Return `0.980 ±0.009`, or `0.990 [0.946, 0.998]` if the printed distances of the two ends to the value differ."""
    text = f"{value:.{digits}f}"
    if interval is None:
        return text
    below, above = (f"{abs(end - value):.{digits}f}" for end in interval)
    low, high = (f"{round(end, digits) + 0.0:.{digits}f}" for end in interval)  # + 0.0: no minus before a zero
    return f"{text} ±{above}" if below == above else f"{text} [{low}, {high}]"


def with_intervals(
    metrics: Metrics, names: Sequence[str], contributions: Mapping[str, Contributions], samples: Samples
) -> Metrics:
    """Return the metrics with both ends after each named metric; a missing end is None, with the reason."""
    by_metric = intervals(contributions, clusters(samples))
    values: dict[str, float | None] = {}
    reasons = dict(metrics.reasons)
    for name, value in metrics.values.items():
        values[name] = value
        if name not in names:
            continue
        interval = by_metric.get(name) if value is not None else None
        for end, limit in zip(interval_ends(name), interval or (None, None), strict=True):
            values[end] = limit
            if limit is None:
                reason = NO_INTERVAL if name in contributions else NO_CONTRIBUTIONS
                reasons[end] = reasons.get(name, reason)
    return Metrics(values, reasons)


def intervals(
    contributions: Mapping[str, Contributions], clusters: np.ndarray | None = None, alpha: float = ALPHA
) -> dict[str, Interval | None]:
    """Return the interval of each metric over images (or clusters); all bootstrap intervals use the same resamples."""
    ends: dict[str, Interval | None] = {
        name: proportion(_clustered(one.parts, clusters), alpha) for name, one in contributions.items() if one.hits
    }
    bootstrapped = {name: one for name, one in contributions.items() if not one.hits}
    parts = {id(one.parts): _clustered(one.parts, clusters) for one in bootstrapped.values()}
    sums = dict(zip(parts, resample(list(parts.values())), strict=True))
    for name, one in bootstrapped.items():
        ends[name] = _bootstrap_interval(one, parts[id(one.parts)], sums[id(one.parts)], alpha)
    return {name: ends[name] for name in contributions}


def clusters(samples: Samples) -> np.ndarray | None:
    """Return the cluster of each image, or None if there are no clusters."""
    numbers = samples.get(CLUSTER)
    return numbers.astype(np.int64) if len(numbers) else None


def wilson(share: float, count: float, alpha: float = ALPHA) -> Interval:
    """Return Wilson's interval of a proportion of `count` independent tries."""
    from scipy.special import ndtri

    squared = float(ndtri(1 - alpha / 2)) ** 2
    centre = (share + squared / (2 * count)) / (1 + squared / count)
    spread = share * (1 - share) / count + squared / (4 * count**2)
    half_width = (squared * spread) ** 0.5 / (1 + squared / count)
    return _rounded(max(0.0, centre - half_width), min(1.0, centre + half_width))


def proportion(parts: np.ndarray, alpha: float = ALPHA) -> Interval | None:
    """Return Wilson's interval of Σ hits ÷ Σ tries, from the hits and tries [n, 2] of each image.

    If an image has several tries, their number is divided by the design effect: the variance over images ÷ the variance
    of as many independent tries. With hits only, or misses only, that variance is zero, and each image counts as one
    try.
    """
    hits, tries = np.asarray(parts, np.float64).T
    total, images = float(tries.sum()), int((tries > 0).sum())
    if not total:
        return None
    share = float(hits.sum()) / total
    if tries.max() <= 1:
        return wilson(share, total, alpha)
    if images < 2 or not 0 < share < 1:
        return wilson(share, images, alpha)
    variance = images / (images - 1) * float(((hits - share * tries) ** 2).sum()) / total**2
    count = min(total, share * (1 - share) / variance) if variance else float(images)
    return wilson(share, max(count, 1.0), alpha)


def resample(parts: Sequence[Any], seed: int = SEED, resamples: int = RESAMPLES) -> list[np.ndarray]:
    """Return sums [resamples, k] of several contributions [n, k] over the same images, drawn with replacement."""
    if not parts:
        return []
    blocks = [[weights @ one for one in parts] for weights in _resample_weights(parts[0].shape[0], seed, resamples)]
    return [np.concatenate(each) for each in zip(*blocks, strict=True)]


def bca(value: float, drawn: np.ndarray, jackknifed: np.ndarray, alpha: float = ALPHA) -> Interval:
    """Return the bias-corrected and accelerated interval from resampled values, and the values without each image."""
    from scipy.special import ndtr, ndtri

    below = (np.mean(drawn < value) + np.mean(drawn <= value)) / 2
    bias = ndtri(np.clip(below, 1 / (2 * len(drawn)), 1 - 1 / (2 * len(drawn))))
    deviations = jackknifed.mean() - jackknifed
    spread = float((deviations**2).sum()) ** 1.5
    acceleration = float((deviations**3).sum()) / (6 * spread) if spread else 0.0
    shifted = bias + ndtri([alpha / 2, 1 - alpha / 2])
    levels = ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(drawn, levels)
    return _rounded(low, high)


def percentile(drawn: np.ndarray, alpha: float = ALPHA) -> Interval:
    """Return the percentile interval from resampled values."""
    low, high = np.quantile(drawn, [alpha / 2, 1 - alpha / 2])
    return _rounded(low, high)


def _bootstrap_interval(contributions: Contributions, parts: Any, sums: np.ndarray, alpha: float) -> Interval | None:
    """Return the BCa interval, or the basic bootstrap interval of an average over classes.

    If all resamples are equal, return Wilson's interval for contributions of at most 1, and None for others.
    """
    value, drawn = _value(contributions, parts), contributions.value(sums)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or np.ptp(drawn) <= 1e-12:
        return wilson(min(max(value, 0.0), 1.0), parts.shape[0], alpha) if contributions.at_most_one else None
    if contributions.over_classes:
        low, high = percentile(drawn, alpha)
        return _rounded(max(0.0, 2 * value - high), min(1.0, 2 * value - low))
    jackknifed = contributions.value(_total(parts) - parts)
    return bca(value, drawn, jackknifed[np.isfinite(jackknifed)], alpha)


# -------------------------------------------------------------------------------------------------------- two results
def deciding_alpha(figures: int) -> float:
    """Return the level at which each of several metrics is decided, so that false alarms are rare for all together.

    It is Bonferroni's level 0.02 ÷ figures, two-sided and therefore 1 % of false regressions, and at most 0.01.
    """
    return min(DECIDING_ALPHA, 0.02 / max(figures, 1))


def difference(
    base: Contributions,
    candidate: Contributions,
    clusters: np.ndarray | None = None,
    level: float = DECIDING_ALPHA,
) -> Difference:
    """Return candidate − base of one metric over the same images in the same order, decided at a level."""
    old, new = (_clustered(one.parts, clusters) for one in (base, candidate))
    value = _value(candidate, new) - _value(base, old)
    changed = _changed(base, candidate, old, new, clusters)
    differing, count = int(changed.sum()), len(changed)
    if base.hits and _single(old) and _single(new) and np.array_equal(old[:, 1], new[:, 1]):
        tries = int(old[:, 1].sum())
        lost, won = int((old[:, 0] > new[:, 0]).sum()), int((new[:, 0] > old[:, 0]).sum())
        interval, deciding = (tango(lost, won, tries, alpha) if tries else None for alpha in (ALPHA, level))
        shown = mcnemar(lost, won) <= level
        return Difference(value, interval, deciding, shown, differing, tries, "exact McNemar test")
    if count < 2 or not differing:
        return Difference(value, None, None, False, differing, count, "paired bootstrap")
    base_sums, candidate_sums = resample([old, new])
    drawn = candidate.value(candidate_sums) - base.value(base_sums)
    drawn = drawn[np.isfinite(drawn)]
    interval, deciding = percentile(drawn), percentile(drawn, level)
    shown = (deciding[0] > 0 or deciding[1] < 0) and permutation_p(base, candidate, old, new, changed) <= level
    return Difference(value, interval, deciding, shown, differing, count, "paired bootstrap")


def mcnemar(lost: int, won: int) -> float:
    """Return the two-sided p of McNemar's exact test from the numbers of lost and won hits."""
    from scipy.stats import binomtest

    return float(binomtest(won, lost + won).pvalue) if lost + won else 1.0


def tango(lost: int, won: int, count: int, alpha: float = ALPHA) -> Interval:
    """Return Tango's score interval of (won − lost) ÷ count, a difference of two proportions on the same images."""
    from scipy.optimize import brentq
    from scipy.special import ndtri

    z = float(ndtri(1 - alpha / 2))

    def score(change: float) -> float:
        linear = -won - lost + (2 * count - won + lost) * change
        root = max(linear**2 + 8 * count * lost * change * (1 - change), 0.0) ** 0.5
        spread = count * (2 * (root - linear) / (4 * count) + change * (1 - change))
        distance = won - lost - count * change
        return float(distance / max(spread, 1e-12) ** 0.5)

    observed, edge = (won - lost) / count, 1 - 1e-12
    low = brentq(lambda change: score(change) - z, -edge, observed) if observed > -1 else -1.0
    high = brentq(lambda change: score(change) + z, observed, edge) if observed < 1 else 1.0
    return _rounded(low, high)


def permutation_p(base: Contributions, candidate: Contributions, old: Any, new: Any, changed: np.ndarray) -> float:
    """Return the two-sided p of the permutation test: the share of random swaps with a difference at least as large.

    The bootstrap alone is too confident if only a few images differ, because few of its resamples leave them out.
    `changed` are the rows of the contributions that differ.
    """
    differing = np.flatnonzero(changed)
    rng = np.random.default_rng(SEED)
    sides = rng.integers(0, 2, (RESAMPLES, len(differing))).astype(np.float64)
    if base.pool is not None:
        together = base.pool(candidate)
        own, other = sides @ old[differing], sides @ new[differing]  # weights of the images that are swapped
        all_old, all_new = np.broadcast_to(_total(old), own.shape), np.broadcast_to(_total(new), other.shape)
        firsts = together(np.concatenate([all_old - own, other], axis=1))
        seconds = together(np.concatenate([own, all_new - other], axis=1))
    else:
        change = (new - old)[differing]
        firsts = base.value(_total(old) + sides @ change)
        seconds = candidate.value(_total(new) - sides @ change)
    observed = abs(_value(candidate, new) - _value(base, old))
    reached = np.abs(seconds - firsts) >= observed - 1e-12
    return float(1 + reached.sum()) / (1 + RESAMPLES)


def _changed(
    base: Contributions, candidate: Contributions, old: Any, new: Any, clusters: np.ndarray | None
) -> np.ndarray:
    """Return for each image, or each cluster, whether its contributions differ."""
    if base.content is None or candidate.content is None:
        return np.asarray(abs(new - old).sum(axis=1)).ravel() > 1e-12
    images = base.content != candidate.content
    return images if clusters is None else np.bincount(clusters, images) > 0


def independent(base: tuple[float, Interval], candidate: tuple[float, Interval], alpha: float = ALPHA) -> Interval:
    """Return the interval of candidate − base over different images, from both 95 % intervals (Newcombe 1998)."""
    from scipy.special import ndtri

    scale = float(ndtri(1 - alpha / 2) / ndtri(1 - ALPHA / 2))
    (old, (old_low, old_high)), (new, (new_low, new_high)) = base, candidate
    down = ((new - new_low) ** 2 + (old_high - old) ** 2) ** 0.5
    up = ((new_high - new) ** 2 + (old - old_low) ** 2) ** 0.5
    return _rounded(new - old - scale * down, new - old + scale * up)


# ---------------------------------------------------------------------------------------------------------- clusters
def read_clusters(path: str, ids: Sequence[str]) -> np.ndarray:
    """Read the cluster of each image, as an integer, from a CSV file with the columns `picture` and `cluster`.

    Raises ConfigError if the file cannot be read, lists an image twice, or does not list one of these images.
    """
    source = f"data.clusters={path}"
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{source}: {getattr(error, 'strerror', None) or error}", "give a CSV file") from error
    if not rows or rows[0] != ["picture", "cluster"]:
        raise ConfigError(f"{source}: the first line must be 'picture,cluster'")
    cluster_of: dict[str, str] = {}
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != 2 or not row[1].strip():
            raise ConfigError(f"{source}, line {line}: {','.join(row)!r} is not an image and its cluster")
        if row[0] in cluster_of:
            raise ConfigError(f"{source}, line {line}: image '{row[0]}' is listed twice", "list each image once")
        cluster_of[row[0]] = row[1].strip()
    missing = [name for name in ids if name not in cluster_of]
    if missing:
        raise ConfigError(
            f"{source}: {len(missing)} of {len(ids)} images have no cluster, the first is '{missing[0]}'",
            "list every image by its id",
        )
    numbers = {name: index for index, name in enumerate(dict.fromkeys(cluster_of[name] for name in ids))}
    return np.array([float(numbers[cluster_of[name]]) for name in ids])


# ----------------------------------------------------------------------------------------------------------- details
def sum_per_image(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return sums [n] of consecutive values, `counts` of them for each image."""
    return np.bincount(np.repeat(np.arange(len(counts)), counts.astype(np.int64)), values, len(counts))


def mean_of(values: np.ndarray, counts: np.ndarray | None = None, at_most_one: bool = True) -> Contributions:
    """Return the contributions to the mean of one value per image, or of the sum of `counts` values per image."""
    return Contributions(_pairs(values, counts), _share, at_most_one=at_most_one)


def hits_of(hits: np.ndarray, tries: np.ndarray | None = None) -> Contributions:
    """Return the contributions to the proportion of hits among tries; without `tries`, each image has one try."""
    return Contributions(_pairs(hits, tries), _share, hits=True)


def _pairs(values: np.ndarray, counts: np.ndarray | None) -> np.ndarray:
    return np.stack([values, np.ones(len(values)) if counts is None else counts], axis=1).astype(np.float64)


def _share(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def _clustered(parts: Any, clusters: np.ndarray | None) -> Any:
    """Return contributions [n, k] summed over each cluster."""
    if clusters is None:
        return parts
    from scipy.sparse import csr_array

    positions = (clusters, np.arange(len(clusters)))
    return csr_array((np.ones(len(clusters)), positions), shape=(int(clusters.max()) + 1, len(clusters))) @ parts


def _resample_weights(count: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield blocks [b, count] of the number of times that each resample contains each image."""
    if count * resamples > CACHED_CELLS:
        yield from _draw_blocks(count, seed, resamples)
        return
    for block in _cached_blocks(count, seed, resamples):
        yield block.astype(np.float64)


@lru_cache(maxsize=1)
def _cached_blocks(count: int, seed: int, resamples: int) -> tuple[np.ndarray, ...]:
    """Return the blocks with one byte per weight. They are cached for further metrics over equally many images."""
    return tuple(block.astype(np.uint8) for block in _draw_blocks(count, seed, resamples))


def _draw_blocks(count: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    step = max(1, CELLS // count)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        places = rng.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
        yield np.bincount(places.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _total(parts: Any) -> np.ndarray:
    return np.asarray(parts.sum(axis=0)).ravel()


def _value(contributions: Contributions, parts: Any) -> float:
    return float(contributions.value(_total(parts)))


def _single(parts: np.ndarray) -> bool:
    """Return whether each image has at most one try, a hit or a miss."""
    return bool(np.isin(parts, (0.0, 1.0)).all())


def _rounded(low: float, high: float) -> Interval:
    return round(float(low), DIGITS), round(float(high), DIGITS)
