"""Segmentation with prompts: the IoU of the mask predicted for a point or a box with the annotated mask.

Each instance has a separate prompt, so no matching is needed: the IoU is between the annotated and the predicted mask
at the resolution of the image. Crowd regions have no prompt. COCO's average recall is the mean over the same
thresholds, but COCO first matches predictions to instances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from visionbench.core import (
    HIGHER,
    OVER_PICTURES,
    QUALITY,
    Contributions,
    MetricDeclaration,
    Metrics,
    Predictions,
    Samples,
)
from visionbench.registry import register
from visionbench.statistics.resampling import hits_of, mean_of, sum_per_image, with_intervals

PROMPTS = ("point", "box")
CHOICES = ("", "best_of_three_")
"""The mask that the estimate of the model ranks first, and the best of its three masks, by the annotation."""
THRESHOLDS = np.linspace(0.5, 0.95, 10)
IOU = "Mean IoU over instances, prompted by a point or a box"
HITS = "Instances with an IoU of at least 0.5, 0.75"
RECALLS = "Mean of the recalls at an IoU of 0.50, 0.55, … 0.95"
BEST = "; of the best of the three masks, not of the one that the model ranks first"


def _segmentation(name: str, meaning: str, title: str = "", zh: str = "", **fields: Any) -> MetricDeclaration:
    return MetricDeclaration(
        f"segmentation_{name}_fraction",
        "fraction",
        meaning,
        HIGHER,
        QUALITY,
        title=title,
        translations={"zh": zh} if zh else {},
        table=bool(title),
        intervals=(OVER_PICTURES,),
        **fields,
    )


@register("metrics", "segmentation")
@dataclass(frozen=True)
class Segmentation:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("evaluation",)
    reads: ClassVar[frozenset[str]] = frozenset(
        {
            *("truth_masks", "mask_size", "empty_masks"),
            *(f"{prompt}_{column}" for prompt in PROMPTS for column in ("masks", "estimates")),
        }
    )
    needs: ClassVar[frozenset[str]] = frozenset({"masks"})

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _segmentation("point_miou", IOU, title="point mIoU", zh="点 mIoU", order=70, compared=True, headline=1),
        _segmentation("box_miou", IOU, title="box mIoU", zh="框 mIoU", order=71, compared=True, headline=2),
        _segmentation("point_average_recall", RECALLS, title="point AR", zh="点 AR", order=72),
        _segmentation("box_average_recall", RECALLS),
        _segmentation("{point,box}_recall_at_iou_{50,75}", HITS),
        _segmentation("{point,box}_best_of_three_miou", f"{IOU}{BEST}"),
        _segmentation("{point,box}_best_of_three_recall_at_iou_{50,75}", f"{HITS}{BEST}"),
        _segmentation("{point,box}_best_of_three_average_recall", f"{RECALLS}{BEST}"),
        MetricDeclaration("segmentation_instances_count", "count", "Instances that the model was prompted for"),
    )

    def score(self, predictions: Predictions) -> Samples:
        """Compute the IoU of the mask ranked first and of the best mask for each instance and prompt.

        Raises ValueError with the id of an image whose estimates are not finite.
        """
        columns = predictions.columns
        series: dict[str, np.ndarray] = {}
        for prompt in PROMPTS:
            pictures = zip(
                predictions.ids,
                columns["truth_masks"],
                columns["mask_size"],
                columns[f"{prompt}_masks"],
                columns[f"{prompt}_estimates"],
                strict=True,
            )
            pairs = [pair for picture in pictures for pair in _ious(*picture)]
            first, best = np.array(pairs).reshape(-1, 2).T
            series |= {f"segmentation/{prompt}_iou": first, f"segmentation/{prompt}_best_of_three_iou": best}
        prompted, empty = len(series["segmentation/point_iou"]), int(sum(columns["empty_masks"]))
        series["segmentation/instances_count"] = np.array([float(prompted)])
        series["segmentation/instances_per_picture"] = np.array([float(len(masks)) for masks in columns["truth_masks"]])
        detail = f"{empty} of {prompted + empty} instances have no pixel and get no prompt"
        return Samples(series, flags={"empty_masks": detail} if empty else {})

    def compute(self, samples: Samples) -> Metrics:
        """Compute mIoU over instances, recall at an IoU of 0.5 and 0.75, average recall, and intervals."""
        values: dict[str, float | None] = {}
        reasons: dict[str, str] = {}
        for name, series in (
            (f"{prompt}_{choice}", f"segmentation/{prompt}_{choice}iou") for prompt in PROMPTS for choice in CHOICES
        ):
            ious = samples.get(series)
            for quantity, per_instance in _instance_values(ious).items():
                metric = f"segmentation_{name}{quantity}_fraction"
                values[metric] = float(per_instance.mean()) if len(ious) else None
                if not len(ious):
                    reasons[metric] = (
                        "no instance had a prompt" if series in samples.series else samples.why_missing(series)
                    )
        count = samples.get("segmentation/instances_count")
        values["segmentation_instances_count"] = float(count[0]) if len(count) else None
        if not len(count):
            reasons["segmentation_instances_count"] = samples.why_missing("segmentation/instances_count")
        names = [name for name in values if name.endswith("_fraction")]
        return with_intervals(Metrics(values, reasons), names, self.contributions(samples), samples)

    def contributions(self, samples: Samples) -> dict[str, Contributions]:
        """Return for each image the sum over its instances, and their number."""
        counts = samples.get("segmentation/instances_per_picture")
        contributions: dict[str, Contributions] = {}
        for prompt, choice in ((prompt, choice) for prompt in PROMPTS for choice in CHOICES):
            ious = samples.get(f"segmentation/{prompt}_{choice}iou")
            if not len(ious) or not len(counts):
                continue
            for quantity, per_instance in _instance_values(ious).items():
                sums = sum_per_image(per_instance if per_instance.ndim == 1 else per_instance.mean(axis=1), counts)
                make = hits_of if quantity.startswith("recall_at") else mean_of
                contributions[f"segmentation_{prompt}_{choice}{quantity}_fraction"] = make(sums, counts)
        return contributions


def _instance_values(ious: np.ndarray) -> dict[str, np.ndarray]:
    """Return the value of each instance for each metric; the average recall has one for each threshold."""
    return {
        "miou": ious,
        "recall_at_iou_50": ious >= 0.5,
        "recall_at_iou_75": ious >= 0.75,
        "average_recall": ious[:, None] >= THRESHOLDS - 1e-12,
    }


def _ious(
    name: str, truths: Sequence[str], size: Sequence[int], answers: Sequence[Sequence[str]], estimates: np.ndarray
) -> Iterator[tuple[float, float]]:
    """Yield for each instance of an image the IoU of the mask with the highest estimate, and of the best mask."""
    from pycocotools.mask import iou

    if not np.isfinite(estimates).all():
        raise ValueError(f"segmentation: {name} has an estimate that is not finite")

    def run_lengths(counts: str) -> dict[str, Any]:
        return {"size": list(size), "counts": counts.encode()}

    for truth, three, guesses in zip(truths, answers, estimates, strict=True):
        reached = iou([run_lengths(counts) for counts in three], [run_lengths(truth)], [0])[:, 0]
        yield float(reached[int(np.argmax(guesses))]), float(reached.max())
