"""Matches of boxes by `COCOeval` of pycocotools, as series of numbers, and its figures of such series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

from visionbench.core import TRUTH_BOXES, Predictions, Samples

PREDICTED = ("boxes", "box_scores", "box_classes")
AREAS = ("all", "small", "medium", "large")
"""COCO's ranges of the area of an instance: small is up to 32², medium up to 96², large above, in pixels."""
THRESHOLDS = 10
"""The number of IoU thresholds: 0.50, 0.55, … 0.95."""


def match(predictions: Predictions) -> Samples:
    """Match predicted boxes and instances.

    Series of each predicted box of a class with an annotation, ordered by class, image and falling score:
    `detection/image_index`, `class_index`, `score_fraction`, and for each range of areas `<area>_bits`. Bit t is set if
    the box is matched at threshold t, and bit 10 + t if it is ignored. Series of each instance that is no crowd region:
    `truth_image_index`, `truth_class_index`, and `truth_bits`, in which bit a is set if range a includes it.
    `pictures_count` is the number of images.
    """
    evaluated = _evaluate(predictions)
    series: dict[str, list[np.ndarray]] = {name: [] for name in ("image_index", "class_index", "score_fraction")}
    series |= {f"{area}_bits": [] for area in AREAS}
    images, classes = len(predictions.ids), evaluated.params.catIds if evaluated else []
    for place in range(images * len(classes)):
        kind, image = divmod(place, images)
        entries = [evaluated.evalImgs[(kind * len(AREAS) + area) * images + image] for area in range(len(AREAS))]
        if entries[0] is None:
            continue
        scores = np.array(entries[0]["dtScores"], float)
        series["score_fraction"].append(scores)
        series["image_index"].append(np.full(len(scores), float(image)))
        series["class_index"].append(np.full(len(scores), float(classes[kind])))
        for area, entry in zip(AREAS, entries, strict=True):
            series[f"{area}_bits"].append(_pack(entry["dtMatches"] > 0, entry["dtIgnore"]))
    truths = _list_truths(predictions, evaluated.params.areaRng if evaluated else ())
    arrays = {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in series.items()}
    arrays |= {"pictures_count": np.array([float(images)]), **truths}
    return Samples({f"detection/{name}": values for name, values in arrays.items()})


def _evaluate(predictions: Predictions) -> Any:
    """Return a `COCOeval` whose images are evaluated, or None if nothing is annotated.

    Its images have the ids 0, 1, … in the order of the predictions, and its categories are the indices of the classes
    with an annotation. Other classes have no average precision.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    columns = predictions.columns
    annotations: list[dict[str, Any]] = []
    truths = zip(*(columns[name] for name in TRUTH_BOXES), strict=True)
    for image, (boxes, kinds, areas, crowds) in enumerate(truths):
        annotations += [
            {"image_id": image, "category_id": int(kind), "bbox": box, "area": float(area), "iscrowd": int(crowd)}
            for box, kind, area, crowd in zip(boxes.tolist(), kinds, areas, crowds, strict=True)
        ]
    if not annotations:
        return None
    categories = sorted({row["category_id"] for row in annotations})
    results: list[dict[str, Any]] = []
    for image, (boxes, scores, kinds) in enumerate(zip(*(columns[name] for name in PREDICTED), strict=True)):
        kept = np.isin(kinds, categories)
        results += [
            {"image_id": image, "category_id": int(kind), "bbox": box, "score": float(score)}
            for box, score, kind in zip(boxes[kept].tolist(), scores[kept], kinds[kept], strict=True)
        ]
    with redirect_stdout(StringIO()):
        truth, predicted = COCO(), COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(len(predictions.ids))],
            "categories": [{"id": kind} for kind in categories],
            "annotations": _numbered(annotations),
        }
        truth.createIndex()
        if results:  # loadRes does not take an empty list
            predicted = truth.loadRes(results)
        evaluated = COCOeval(truth, predicted, "bbox")
        evaluated.evaluate()
    return evaluated


def _numbered(annotations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return annotations with ids from 1. `COCOeval` takes a match with the id 0 for no match."""
    return [{**row, "id": id} for id, row in enumerate(annotations, start=1)]


def _list_truths(predictions: Predictions, ranges: Sequence[Sequence[float]]) -> dict[str, np.ndarray]:
    """Return the series of all instances that are no crowd regions."""
    columns = predictions.columns
    counted = [~crowds for crowds in columns["truth_crowds"]]
    areas = np.concatenate([own[keep] for own, keep in zip(columns["truth_areas"], counted, strict=True)])
    kinds = np.concatenate([own[keep] for own, keep in zip(columns["truth_classes"], counted, strict=True)])
    included = [(areas >= low) & (areas <= high) for low, high in ranges]
    return {
        "truth_image_index": np.repeat(np.arange(len(counted)), [keep.sum() for keep in counted]).astype(float),
        "truth_class_index": kinds.astype(float),
        "truth_bits": sum((inside * 2.0**bit for bit, inside in enumerate(included)), np.zeros(len(areas))),
    }


def _pack(matched: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Return two arrays [thresholds, boxes] of bits as one number for each box."""
    weights = 2.0 ** np.arange(2 * THRESHOLDS)
    return np.asarray(weights @ np.concatenate([matched, ignored]).astype(float))


def unpack(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays [thresholds, boxes] that `_pack` packed."""
    flags = bits.astype(np.int64) >> np.arange(2 * THRESHOLDS)[:, None] & 1
    return flags[:THRESHOLDS], flags[THRESHOLDS:]


def accumulate(samples: Samples) -> np.ndarray:
    """Return `COCOeval.stats` of the matches. A figure without an instance is -1."""
    from pycocotools.cocoeval import COCOeval

    images = int(samples.get("detection/pictures_count")[0])
    truth_images, truth_kinds, truth_bits = (
        samples.get(f"detection/truth_{name}").astype(np.int64) for name in ("image_index", "class_index", "bits")
    )
    kinds = sorted(set(truth_kinds.tolist()))
    rows = {kind: row for row, kind in enumerate(kinds)}
    box_kinds = samples.get("detection/class_index").astype(np.int64)
    kept = np.isin(box_kinds, kinds)  # a class may only have crowd regions
    box_images, box_kinds = samples.get("detection/image_index").astype(np.int64)[kept], box_kinds[kept]
    scores = samples.get("detection/score_fraction")[kept]
    places = np.array([rows[kind] for kind in box_kinds.tolist()], np.int64) * images + box_images
    truth_places = np.array([rows[kind] for kind in truth_kinds.tolist()], np.int64) * images + truth_images
    with redirect_stdout(StringIO()):
        evaluated = COCOeval(iouType="bbox")
        evaluated.params.imgIds, evaluated.params.catIds = list(range(images)), kinds
        evaluated._paramsEval = evaluated.params
        entries: list[Any] = [None] * (len(kinds) * len(AREAS) * images)
        for area, name in enumerate(AREAS):
            matched, ignored = unpack(samples.get(f"detection/{name}_bits")[kept])
            instances = np.bincount(truth_places[truth_bits >> area & 1 > 0], minlength=len(kinds) * images)
            bounds = np.searchsorted(places, np.arange(len(kinds) * images + 1))
            for place in np.flatnonzero((np.diff(bounds) > 0) | (instances > 0)):
                kind, image = divmod(int(place), images)
                own = slice(bounds[place], bounds[place + 1])
                entries[(kind * len(AREAS) + area) * images + image] = {
                    "dtScores": scores[own],
                    "dtMatches": matched[:, own],
                    "dtIgnore": ignored[:, own],
                    "gtIgnore": np.zeros(instances[place]),
                }
        evaluated.evalImgs = entries or [None]
        evaluated.accumulate()
        evaluated.summarize()
    return np.asarray(evaluated.stats)
