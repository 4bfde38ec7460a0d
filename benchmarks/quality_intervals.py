"""Simulate the intervals of quality figures with fixed seeds: python benchmarks/quality_intervals.py

Coverage: how often an interval contains the true value, for several kinds of figures and 100, 1,000 and 5,000 images.
Gate: how often `compare` gives the verdict worse if both sides are equally good (a false alarm), and if the candidate
is two points worse (power). All numbers come from the code that a run and `compare` use.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from visionbench.core import Contributions, MetricDeclaration, Samples
from visionbench.metrics.classification import _averaged, _class_counts
from visionbench.results.comparison import quality_verdict
from visionbench.results.declared import bundled
from visionbench.statistics.resampling import (
    deciding_alpha,
    difference,
    hits_of,
    intervals,
    mean_of,
    percentile,
    resample,
)

Make = Callable[[np.random.Generator, int], Contributions]
THRESHOLD = 0.01
TOGETHER = 50
"""The number of simulated results whose intervals come from one set of resamples."""


# ------------------------------------------------------------------------------------------------------------- figures
def share(value: float | None) -> Make:
    """Make one hit or miss per image. Without a value the share of misses is one in n."""
    return lambda rng, n: hits_of((rng.random(n) < (1 - 1 / n if value is None else value)).astype(float))


def captions(value: float | None, correlation: float = 0.3, each: int = 5) -> Make:
    """Make hits of five captions per image, which are correlated."""

    def make(rng: np.random.Generator, n: int) -> Contributions:
        mean = 1 - 1 / n if value is None else value
        spread = (1 - correlation) / correlation
        return hits_of(rng.binomial(each, rng.beta(mean * spread, (1 - mean) * spread, n)), np.full(n, each))

    return make


def overlaps(rng: np.random.Generator, n: int) -> Contributions:
    """Make the IoU of one to four instances per image, with a mean of 0.8. The instances of an image are correlated."""
    counts, picture = rng.integers(1, 5, n), np.repeat(rng.beta(8, 2, n), 4).reshape(n, 4)
    each = rng.beta(12 * picture + 0.01, 12 * (1 - picture) + 0.01)
    return mean_of((each * (np.arange(4) < counts[:, None])).sum(axis=1), counts)


def scores(rng: np.random.Generator, n: int) -> Contributions:
    """Make a score per image with a long tail and many values near zero, like CIDEr-D, with a mean of 1.2."""
    return mean_of(rng.gamma(0.8, 1.5, n), at_most_one=False)


def classes(count: int) -> Make:
    """Make macro F1 over this number of classes. The hardest class has a recall of one half."""

    def make(rng: np.random.Generator, n: int) -> Contributions:
        true = rng.integers(0, count, n)
        right = rng.random(n) < np.linspace(0.5, 0.98, count)[true]
        predicted = np.where(right, true, rng.integers(0, count, n))
        series = {"classification/true_index": true, "classification/predicted_index": predicted}
        return Contributions(
            _class_counts(Samples(series), count), lambda sums: _averaged("f1", "macro", sums), over_classes=True
        )

    return make


def truth_of_f1(count: int) -> float:
    """Return the macro F1 of the distribution of `classes`: true positives ÷ the mean of true and predicted."""
    recall = np.linspace(0.5, 0.98, count)
    stray = (1 - recall).mean() / count
    right = recall / count + (1 - recall) / count / count
    predicted = recall / count + stray
    return float((2 * right / (1 / count + predicted)).mean())


KINDS: dict[str, tuple[Make, float | None]] = {
    "hits, 0.5": (share(0.5), 0.5),
    "hits, 0.9": (share(0.9), 0.9),
    "hits, 0.98": (share(0.98), 0.98),
    "hits, 1 − 1/n": (share(None), None),
    "t2i, 5 captions, 0.5": (captions(0.5), 0.5),
    "t2i, 5 captions, 0.9": (captions(0.9), 0.9),
    "t2i, 5 captions, 0.98": (captions(0.98), 0.98),
    "t2i, 5 captions, 1 − 1/n": (captions(None), None),
    "mIoU": (overlaps, 0.8),
    "CIDEr": (scores, 1.2),
    "macro F1, 15 classes": (classes(15), truth_of_f1(15)),
}


def coverage(kind: str, pictures: int, trials: int, seed: int = 1) -> tuple[float, float, float]:
    """Return how often the reported interval and that of the percentile bootstrap contain the true value.

    The third value is the mean width of the reported interval.
    """
    make, known = KINDS[kind]
    truth = 1 - 1 / pictures if known is None else known
    rng = np.random.default_rng(seed)
    reported, plain, width = 0, 0, 0.0
    for start in range(0, trials, TOGETHER):
        drawn = {str(index): make(rng, pictures) for index in range(min(TOGETHER, trials - start))}
        sums = resample([of.parts for of in drawn.values()])
        for interval, of, resamples in zip(intervals(drawn).values(), drawn.values(), sums, strict=True):
            values = of.value(resamples)
            limits = percentile(values[np.isfinite(values)])
            assert interval is not None
            reported += interval[0] <= truth <= interval[1]
            plain += limits[0] <= truth <= limits[1]
            width += interval[1] - interval[0]
    return reported / trials, plain / trials, width / trials


# ---------------------------------------------------------------------------------------------------------------- gate
Pair = Callable[[np.random.Generator, int, float], tuple[Contributions, Contributions]]
"""From a random generator, n images and a drop to a base and a candidate that is worse by the drop."""


def hit_pairs(noise: float) -> Pair:
    """Make pairs of top-1: this share of the images is random on each side, the others are equal on both sides."""

    def make(rng: np.random.Generator, n: int, drop: float) -> tuple[Contributions, Contributions]:
        sure = (rng.random(n) < 0.8).astype(float)
        chance = rng.random(n) < noise
        base, candidate = (np.where(chance, rng.random(n) < 0.5, sure) for _ in range(2))
        lost = (rng.random(n) < drop / candidate.mean()) if drop else np.zeros(n, bool)
        return hits_of(base), hits_of(np.where(lost, 0.0, candidate))

    return make


def caption_pairs(rng: np.random.Generator, n: int, drop: float) -> tuple[Contributions, Contributions]:
    """Make a pair of t2i with five captions per image, random on each side with the rate of the image."""
    rate = rng.beta(4, 1, n)
    tries = np.full(n, 5)
    return tuple(hits_of(rng.binomial(5, rate * (1 - less / 0.8)), tries) for less in (0.0, drop))  # type: ignore[return-value]


def overlap_pairs(rng: np.random.Generator, n: int, drop: float) -> tuple[Contributions, Contributions]:
    """Make a pair of IoU with one instance per image and independent noise on each side."""
    own = rng.beta(8, 2, n)
    return tuple(mean_of(np.clip(own - less + rng.normal(0, 0.05, n), 0, 1)) for less in (0.0, drop))  # type: ignore[return-value]


def score_pairs(rng: np.random.Generator, n: int, drop: float) -> tuple[Contributions, Contributions]:
    """Make a pair of scores with a long tail and independent factors on each side. The drop is a share of the score."""
    own = rng.gamma(0.8, 1.5, n)
    sides = (own * (1 - less) * rng.lognormal(-0.02, 0.2, n) for less in (0.0, drop))
    return tuple(mean_of(side, at_most_one=False) for side in sides)  # type: ignore[return-value]


PAIRS: dict[str, tuple[str, Pair]] = {
    "top-1, 2 % of pictures by chance": ("classification_top_1_fraction", hit_pairs(0.02)),
    "top-1, 10 % of pictures by chance": ("classification_top_1_fraction", hit_pairs(0.1)),
    "top-1, 40 % of pictures by chance": ("classification_top_1_fraction", hit_pairs(0.4)),
    "t2i, 5 captions": ("recall_t2i_at_1_fraction", caption_pairs),
    "mIoU": ("segmentation_box_miou_fraction", overlap_pairs),
    "CIDEr": ("captioning_cider_score", score_pairs),
}


def declared(metric: str) -> MetricDeclaration:
    """Return the declaration of a bundled metric."""
    one = bundled().find(metric)
    assert one is not None
    return one


def verdicts(kind: str, pictures: int, pairs: int, drop: float = 0.0, seed: int = 2) -> dict[str, float]:
    """Return the share of pairs with each verdict."""
    metric, make = PAIRS[kind]
    rng = np.random.default_rng(seed)
    counts: dict[str, float] = {}
    for _ in range(pairs):
        base, candidate = make(rng, pictures, drop)
        value = float(base.value(base.parts.sum(axis=0)))
        changed = difference(base, candidate)
        verdict, _ = quality_verdict(declared(metric), value, value + changed.value, changed, THRESHOLD)
        counts[verdict] = counts.get(verdict, 0) + 1 / pairs
    return counts


def gate_of_six(pictures: int, pairs: int, seed: int = 3) -> float:
    """Return the share of identical pairs for which any of R@1, 5 and 10, in both directions, is worse."""
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(pairs):
        hard = rng.normal(0, 1.2, pictures)
        tries = np.full(pictures, 5)
        worse = False
        for way in ("i2t", "t2i"):
            each = 1 if way == "i2t" else 5
            ranks = [np.exp(hard[:, None] + rng.normal(0, 0.6, (pictures, each))) for _ in range(2)]
            for k in (1, 5, 10):
                sides = [hits_of((of <= k).sum(axis=1), tries if way == "t2i" else None) for of in ranks]
                changed = difference(*sides, level=deciding_alpha(6))
                verdict, _ = quality_verdict(
                    declared(f"recall_{way}_at_{k}_fraction"), 0.5, 0.5 + changed.value, changed, THRESHOLD
                )
                worse = worse or verdict == "worse"
        alarms += worse
    return alarms / pairs


# --------------------------------------------------------------------------------------------------------------- print
def main() -> None:
    """Print both tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="trials of the coverage for each number of images")
    parser.add_argument("--pairs", type=int, default=1000, help="pairs of the gate")
    parser.add_argument("--pictures", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--part", choices=["coverage", "gate", "both"], default="both")
    args = parser.parse_args()
    if args.part != "gate":
        print("| figure | pictures | coverage | percentile bootstrap | mean width |\n|---|---:|---:|---:|---:|")
        for kind in KINDS:
            for pictures in args.pictures:
                reported, plain, width = coverage(kind, pictures, args.trials)
                print(f"| {kind} | {pictures:,} | {reported:.1%} | {plain:.1%} | {width:.3f} |", flush=True)
    if args.part != "coverage":
        print("\n| pair | pictures | equal: worse | equal: better | 2 points worse: worse |\n|---|---:|---:|---:|---:|")
        for kind in PAIRS:
            for pictures in args.pictures:
                equal, drop = (verdicts(kind, pictures, args.pairs, less) for less in (0.0, 0.02))
                cells = [equal.get("worse", 0), equal.get("better", 0), drop.get("worse", 0)]
                print(f"| {kind} | {pictures:,} | {' | '.join(f'{cell:.1%}' for cell in cells)} |", flush=True)
        for pictures in args.pictures:
            print(f"| any of six recalls | {pictures:,} | {gate_of_six(pictures, args.pairs):.1%} | | |", flush=True)


if __name__ == "__main__":
    main()
