"""Average precision and average recall as functions of the weights of images, for intervals by resampling.

Average precision is no function of sums over images, because it depends on the order of the boxes of all images. But
the matches of an image do not depend on other images, so that its boxes can count once, never or several times. With a
weight of 1 for each image the figures are those of `COCOeval`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from visionbench.core import Contributions, Samples
from visionbench.metrics.detection.coco import AREAS, THRESHOLDS, unpack

RECALLS = np.linspace(0.0, 1.0, 101)
"""The recalls at which COCO reads the precision."""
CELLS = 2**22
"""Weights of boxes in memory at once: 32 MiB."""


@dataclass(frozen=True)
class ClassRanking:
    """The boxes of a class in all images, in a range of areas, from the highest score to the lowest."""

    images: np.ndarray
    """[boxes], the index of the image."""
    scores: np.ndarray
    matched: np.ndarray
    """bool [thresholds, boxes]."""
    ignored: np.ndarray
    """bool [thresholds, boxes]."""
    truth_images: np.ndarray
    """[instances], the index of the image."""


@dataclass(frozen=True)
class Ranking:
    """The boxes of all classes with an instance in a range of areas."""

    classes: Sequence[ClassRanking]
    images: int

    def pool(self, other: Ranking) -> Ranking:
        """Return both results as one of twice as many images. Both have the same instances."""
        pairs = zip(self.classes, other.classes, strict=True)
        return Ranking([_pool(one, two, self.images) for one, two in pairs], self.images + other.images)

    def mean_precision(self, weights: np.ndarray, thresholds: Sequence[int]) -> np.ndarray:
        """Return the mean average precision [...] for whole numbers as weights [..., images], NaN without an instance.

        A class without an instance in images with a weight is left out.
        """
        rows = weights.reshape(-1, self.images)
        sums, counted = np.zeros(len(rows)), np.zeros(len(rows))
        for one in self.classes:
            step = max(1, CELLS // max(1, len(one.images)))
            for start in range(0, len(rows), step):
                block = slice(start, start + step)
                instances = rows[block][:, one.truth_images].sum(axis=1)
                known = instances > 0
                counted[block] += known
                sums[block] += np.where(known, _average_precision(one, rows[block], instances, thresholds), 0.0)
        with np.errstate(invalid="ignore"):
            return np.asarray(sums / np.where(counted, counted, np.nan)).reshape(weights.shape[:-1])


def precision_contributions(samples: Samples, area: str, thresholds: Sequence[int]) -> Contributions:
    """Return the contributions to a mean average precision, whose sums are the weights of the images."""
    from scipy.sparse import csr_array

    ranking = rank(samples, area)
    places = np.arange(ranking.images)
    return Contributions(
        csr_array((np.ones(len(places)), (places, places)), shape=(len(places), len(places))),
        partial(ranking.mean_precision, thresholds=thresholds),
        over_classes=True,
        content=_digest(samples, ranking.images),
        pool=partial(_pool_value, ranking, thresholds),
    )


def recall_contributions(samples: Samples, area: str, most: int) -> Contributions:
    """Return for each image and class the correct boxes among the best `most`, averaged over thresholds, and the
    number of instances."""
    from scipy.sparse import csr_array

    images, kinds, _, matched, ignored = _read(samples, area)
    correct = (matched & ~ignored).mean(axis=0) * (_places(images, kinds) < most)
    truth_images, truth_kinds = _read_truths(samples, area)
    known, columns = np.unique(truth_kinds, return_inverse=True)
    kept = np.isin(kinds, known)
    rows = np.concatenate([images[kept], truth_images])
    places = np.concatenate([np.searchsorted(known, kinds[kept]), len(known) + columns])
    values = np.concatenate([correct[kept], np.ones(len(truth_images))])
    shape = int(samples.get("detection/pictures_count")[0]), 2 * len(known)
    return Contributions(csr_array((values, (rows, places)), shape=shape), _mean_recall, over_classes=True)


def rank(samples: Samples, area: str) -> Ranking:
    """Return the ranking of a range of areas."""
    images, kinds, scores, matched, ignored = _read(samples, area)
    truth_images, truth_kinds = _read_truths(samples, area)
    classes = []
    for kind in np.unique(samples.get("detection/truth_class_index")):
        own = np.flatnonzero(kinds == kind)
        own = own[np.argsort(-scores[own], kind="mergesort")]  # as in COCOeval
        classes.append(
            ClassRanking(images[own], scores[own], matched[:, own], ignored[:, own], truth_images[truth_kinds == kind])
        )
    return Ranking(classes, int(samples.get("detection/pictures_count")[0]))


def _average_precision(
    one: ClassRanking, weights: np.ndarray, instances: np.ndarray, thresholds: Sequence[int]
) -> np.ndarray:
    """Return the average precision [rows] of a class, as the mean over thresholds."""
    drawn = weights[:, one.images]
    ranks = np.cumsum(drawn, axis=1)
    least = _least_hits(instances)
    sums = np.zeros(len(weights))
    for threshold in thresholds:
        hits = np.flatnonzero(one.matched[threshold] & ~one.ignored[threshold])
        if not len(hits):
            continue
        correct, counted = np.cumsum(drawn[:, hits], axis=1), ranks[:, hits]
        skipped = np.flatnonzero(one.ignored[threshold])
        if len(skipped):
            before = np.cumsum(drawn[:, skipped], axis=1)
            before = np.concatenate([np.zeros((len(weights), 1)), before], axis=1)
            counted = counted - before[:, np.searchsorted(skipped, hits)]
        precision = correct / (counted + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        sums += _read_at(best, correct, least).mean(axis=1)
    return sums / len(thresholds)


def _least_hits(instances: np.ndarray) -> np.ndarray:
    """Return the smallest number of hits [rows, recalls] whose recall reaches each of COCO's recalls."""
    count = np.maximum(instances, 1.0)[:, None]
    least = np.floor(RECALLS * count)
    least = np.where(least / count < RECALLS, least + 1, least)
    return np.asarray(np.where((least > 0) & ((least - 1) / count >= RECALLS), least - 1, least))


def _read_at(best: np.ndarray, correct: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Return the precision [rows, recalls] at the first box with this number of hits, 0 if there is none."""
    size = best.shape[1]
    offsets = np.arange(len(best))[:, None] * (max(float(correct.max()), float(least.max())) + 2)
    positions = np.searchsorted((correct + offsets).ravel(), (least + offsets).ravel()).reshape(least.shape)
    positions -= np.arange(len(best))[:, None] * size
    reached = np.take_along_axis(best, np.minimum(positions, size - 1), axis=1)
    return np.where(positions < size, reached, 0.0)


def _mean_recall(sums: np.ndarray) -> np.ndarray:
    """Return the mean recall [...] over the classes with an instance, of hits and instances [..., 2 × classes]."""
    hits, instances = np.split(sums, 2, axis=-1)
    recalls = np.divide(hits, instances, out=np.zeros_like(hits), where=instances > 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(recalls.sum(axis=-1) / (instances > 0).sum(axis=-1))


def _pool_value(ranking: Ranking, thresholds: Sequence[int], other: Contributions) -> partial[np.ndarray]:
    """Return the function of the weights [..., images of both] of this result and another one."""
    method: partial[np.ndarray] = other.value  # type: ignore[assignment]
    pooled = ranking.pool(method.func.__self__)  # type: ignore[attr-defined]
    return partial(pooled.mean_precision, thresholds=thresholds)


def _pool(one: ClassRanking, two: ClassRanking, images: int) -> ClassRanking:
    scores = np.concatenate([one.scores, two.scores])
    order = np.argsort(-scores, kind="mergesort")
    return ClassRanking(
        np.concatenate([one.images, two.images + images])[order],
        scores[order],
        np.concatenate([one.matched, two.matched], axis=1)[:, order],
        np.concatenate([one.ignored, two.ignored], axis=1)[:, order],
        np.concatenate([one.truth_images, two.truth_images + images]),
    )


def _digest(samples: Samples, images: int) -> np.ndarray:
    """Return a digest of the matches and the scores of each image."""
    rows = np.stack(
        [samples.get(f"detection/{name}") for name in ("class_index", "score_fraction", *(f"{a}_bits" for a in AREAS))],
        axis=1,
    )
    of_image = samples.get("detection/image_index").astype(np.int64)
    order = np.argsort(of_image, kind="stable")
    bounds = np.searchsorted(of_image[order], np.arange(images + 1))
    rows = np.ascontiguousarray(rows[order])
    digests = (
        hashlib.sha256(rows[start:end].tobytes()).digest()[:8] for start, end in zip(bounds, bounds[1:], strict=False)
    )
    return np.array([int.from_bytes(digest) for digest in digests], np.uint64)


def _read(samples: Samples, area: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return image, class and score of each box, and whether it is matched and ignored at each threshold."""
    images, kinds = (samples.get(f"detection/{name}_index").astype(np.int64) for name in ("image", "class"))
    matched, ignored = unpack(samples.get(f"detection/{area}_bits"))
    assert len(matched) == THRESHOLDS
    return images, kinds, samples.get("detection/score_fraction"), matched > 0, ignored > 0


def _read_truths(samples: Samples, area: str) -> tuple[np.ndarray, np.ndarray]:
    """Return image and class of each instance of a range of areas."""
    inside = samples.get("detection/truth_bits").astype(np.int64) >> AREAS.index(area) & 1 > 0
    images, kinds = (samples.get(f"detection/truth_{name}_index").astype(np.int64) for name in ("image", "class"))
    return images[inside], kinds[inside]


def _places(images: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return the place of each box among those of its image and class, from 0. Boxes are ordered by class and image."""
    if not len(images):
        return np.empty(0)
    first = np.flatnonzero(np.concatenate([[True], (np.diff(images) != 0) | (np.diff(kinds) != 0)]))
    return np.arange(len(images)) - np.repeat(first, np.diff(np.append(first, len(images))))
