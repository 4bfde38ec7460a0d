"""Object detection: COCO's average precision and average recall of boxes, by `COCOeval` of pycocotools.

Each figure is the mean over the classes with an instance. Crowd regions are ignored: a box in such a region is neither
correct nor wrong. An image without an instance counts, because each of its boxes is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from visionbench.core import (
    HIGHER,
    OVER_PICTURES,
    QUALITY,
    TRUTH_BOXES,
    Contributions,
    MetricDeclaration,
    Metrics,
    Predictions,
    Samples,
)
from visionbench.metrics.detection.coco import PREDICTED, THRESHOLDS, accumulate, match
from visionbench.metrics.detection.ranking import precision_contributions, recall_contributions
from visionbench.registry import register
from visionbench.statistics.resampling import with_intervals

FIGURES = {
    "map": "all",
    "map_50": "all",
    "map_75": "all",
    "map_small": "small",
    "map_medium": "medium",
    "map_large": "large",
    "average_recall_1": "all",
    "average_recall_10": "all",
    "average_recall_100": "all",
    "average_recall_small": "small",
    "average_recall_medium": "medium",
    "average_recall_large": "large",
}
"""The figures in the order of `COCOeval.stats`, each with the range of areas that needs an instance."""
AT = {"map_50": (0,), "map_75": (5,)}
"""The IoU threshold of a figure, by its index. Other figures are means over all thresholds."""
MOST = {"average_recall_1": 1, "average_recall_10": 10}
"""The number of boxes of an image and a class that count. For other figures it is 100."""
PRECISION = "Mean average precision over classes"
RANGES = "at IoU thresholds of 0.50, 0.55, … 0.95"
RECALL = f"Mean over classes of the recall {RANGES}"


WITHOUT_INTERVAL = ("map_small", "map_medium", "map_large")
"""Figures without an interval, because resampling each of them takes as long as resampling the mAP."""


def _detection(
    name: str, meaning: str, title: str = "", intervals: tuple[str, ...] = (OVER_PICTURES,), **fields: Any
) -> MetricDeclaration:
    return MetricDeclaration(
        f"detection_{name}_fraction",
        "fraction",
        meaning,
        HIGHER,
        QUALITY,
        title=title,
        table=bool(title),
        intervals=intervals,
        **fields,
    )


@register("metrics", "detection")
@dataclass(frozen=True)
class Detection:
    """No options. For intervals, images are drawn with their matches, and the boxes are ranked again; see `ranking`."""

    stages: ClassVar[tuple[str, ...]] = ("evaluation",)
    reads: ClassVar[frozenset[str]] = frozenset({*PREDICTED, *TRUTH_BOXES})
    needs: ClassVar[frozenset[str]] = frozenset({"boxes"})

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _detection("map", f"{PRECISION}, {RANGES} (COCO's AP)", "mAP", order=94, compared=True, headline=1),
        _detection("map_50", f"{PRECISION}, at an IoU threshold of 0.50", "mAP50", order=95, compared=True, headline=2),
        _detection("map_75", f"{PRECISION}, at an IoU threshold of 0.75", order=96, compared=True),
        _detection(
            "map_{small,medium,large}", f"{PRECISION}, {RANGES}, of instances of this area", intervals=(), order=96
        ),
        _detection("average_recall_100", f"{RECALL}, with at most 100 boxes per image and class", "AR", order=97),
        _detection("average_recall_<k>", f"{RECALL}, with at most k boxes per image and class", order=97),
        _detection("average_recall_{small,medium,large}", f"{RECALL}, of instances of this area", order=97),
        MetricDeclaration("detection_instances_count", "count", "Annotated instances, without crowd regions"),
        MetricDeclaration("detection_classes_count", "count", "Classes with an instance, over which figures are means"),
    )

    def score(self, predictions: Predictions) -> Samples:
        """Match predicted boxes and instances by `COCOeval`; see `coco.match`."""
        return match(predictions)

    def compute(self, samples: Samples) -> Metrics:
        """Compute the figures of `COCOeval.stats`, the number of instances, and the number of their classes."""
        values: dict[str, float | None] = dict.fromkeys(f"detection_{name}_fraction" for name in FIGURES)
        with_interval = [f"detection_{name}_fraction" for name in FIGURES if name not in WITHOUT_INTERVAL]
        counts = ("detection_instances_count", "detection_classes_count")
        if not len(samples.get("detection/pictures_count")):
            reason = samples.why_missing("detection/pictures_count")
            without = Metrics(values | dict.fromkeys(counts), dict.fromkeys([*values, *counts], reason))
            return with_intervals(without, with_interval, {}, samples)
        kinds = samples.get("detection/truth_class_index")
        reasons: dict[str, str] = {}
        stats = accumulate(samples)
        for (name, area), value in zip(FIGURES.items(), stats, strict=True):
            if value < 0:
                range_ = "" if area == "all" else f" of the range '{area}' of areas"
                reasons[f"detection_{name}_fraction"] = f"no instance{range_} is annotated"
            else:
                values[f"detection_{name}_fraction"] = float(value)
        numbers = (float(len(kinds)), float(len(np.unique(kinds))))
        metrics = Metrics({**values, **dict(zip(counts, numbers, strict=True))}, reasons)
        return with_intervals(metrics, with_interval, self.contributions(samples), samples)

    def contributions(self, samples: Samples) -> dict[str, Contributions]:
        """Return for average precisions the weight of each image, and for average recalls its hits and instances."""
        if not len(samples.get("detection/truth_class_index")):
            return {}
        contributions: dict[str, Contributions] = {}
        for name, area in FIGURES.items():
            if name in WITHOUT_INTERVAL:
                continue
            if name.startswith("map"):
                one = precision_contributions(samples, area, AT.get(name, tuple(range(THRESHOLDS))))
            else:
                one = recall_contributions(samples, area, MOST.get(name, 100))
            contributions[f"detection_{name}_fraction"] = one
        return contributions
