"""Semantic segmentation: IoU of each class over the pixels of all images, its mean, and accuracies of pixels.

The pixels of all images are counted together in one confusion matrix, as the usual benchmarks do (ADE20K, Cityscapes,
Pascal VOC). A pixel that the data set ignores does not count. A pixel that the model assigns to a class that the data
does not have counts as wrong. Of each class, IoU = correct ÷ (true + predicted − correct).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from visionbench.core import (
    HIGHER,
    IGNORED,
    OVER_PICTURES,
    QUALITY,
    Contributions,
    MetricDeclaration,
    Metrics,
    Predictions,
    Row,
    Samples,
)
from visionbench.registry import register
from visionbench.statistics.resampling import with_intervals

GROUP = "semantic_segmentation"
CLASSES = f"{GROUP}/classes_count"
CELLS = f"{GROUP}/cells_per_picture"
MIOU, PIXELS, ACCURACY = (f"{GROUP}_{name}_fraction" for name in ("miou", "pixel_accuracy", "mean_class_accuracy"))
NO_PIXEL = "no pixel of the data or of the predictions has this class"


def _declare(name: str, meaning: str, zh: str = "", **fields: Any) -> MetricDeclaration:
    return MetricDeclaration(
        f"{GROUP}_{name}_fraction",
        "fraction",
        meaning,
        HIGHER,
        QUALITY,
        translations={"zh": zh} if zh else {},
        **{"intervals": (OVER_PICTURES,), **fields},
    )


@register("metrics", "semantic_segmentation")
@dataclass(frozen=True)
class SemanticSegmentation:
    """No options.

    A class counts in the mean IoU if it occurs among the true or the predicted pixels, and in the mean class accuracy
    if it occurs among the true pixels. The numbers of these classes are reported.
    """

    stages: ClassVar[tuple[str, ...]] = ("evaluation",)
    reads: ClassVar[frozenset[str]] = frozenset({"predicted_map", "class_map"})
    needs: ClassVar[frozenset[str]] = frozenset({"class_map"})
    replaces: ClassVar[frozenset[str]] = reads

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _declare(
            "miou",
            "Mean IoU over classes, over the pixels of all images",
            title="mIoU",
            table=True,
            order=74,
            compared=True,
            headline=1,
        ),
        _declare(
            "pixel_accuracy",
            "Pixels with the correct class",
            zh="像素准确率",
            title="pixel acc.",
            table=True,
            order=75,
            compared=True,
            headline=2,
        ),
        _declare("mean_class_accuracy", "Mean over classes of the true pixels with the correct class"),
        _declare("class_<k>_iou", "IoU of the class with index k in the data set", intervals=()),
        MetricDeclaration(f"{GROUP}_pixels_count", "count", "Pixels that were scored, without ignored pixels"),
        MetricDeclaration(f"{GROUP}_classes_count", "count", "Classes of the data set"),
        MetricDeclaration(f"{GROUP}_scored_classes_count", "count", "Classes in the mean IoU"),
        MetricDeclaration(f"{GROUP}_true_classes_count", "count", "Classes in the mean class accuracy"),
    )

    def compare(self, row: Row) -> Row:
        """Return `class_confusion` int [n, 3] of an image: a true class, a predicted class, the number of pixels."""
        true, predicted = row["class_map"].astype(np.int64), row["predicted_map"].astype(np.int64)
        counted = true != IGNORED
        width = int(predicted.max(initial=0)) + 1
        cells, pixels = np.unique(true[counted] * width + predicted[counted], return_counts=True)
        return {"class_confusion": np.stack([cells // width, cells % width, pixels], axis=1)}

    def score(self, predictions: Predictions) -> Samples:
        """Return the cells of the confusion matrix of each image.

        A model that predicts one class for all pixels is a fault, if the data has several classes.
        """
        images = predictions.columns["class_confusion"]
        cells = np.concatenate(images).astype(np.float64)
        series = {
            f"{GROUP}/true_index": cells[:, 0],
            f"{GROUP}/predicted_index": cells[:, 1],
            f"{GROUP}/pixels_count": cells[:, 2],
            CELLS: np.array([float(len(image)) for image in images]),
            CLASSES: np.array([float(len(predictions.classes))]),
        }
        faults = {}
        if len(np.unique(cells[:, 1])) == 1 < len(np.unique(cells[:, 0])):
            faults["answers_equal"] = f"the model predicts one class for every pixel of all {len(images)} images"
        return Samples(series, faults=faults)

    def compute(self, samples: Samples) -> Metrics:
        """Compute mean IoU, IoU of each class, pixel accuracy, mean class accuracy, and intervals."""
        contributions = self.contributions(samples)
        if not contributions:
            missing = [declared.name for declared in self.declarations if "<" not in declared.name]
            metrics = Metrics(dict.fromkeys(missing), dict.fromkeys(missing, samples.why_missing(CELLS)))
            return with_intervals(metrics, [MIOU, PIXELS, ACCURACY], {}, samples)
        sums = np.asarray(contributions[MIOU].parts.sum(axis=0)).ravel()
        true, predicted, _ = np.split(sums, 3)
        values: dict[str, float | None] = {name: float(one.value(sums)) for name, one in contributions.items()}
        reasons: dict[str, str] = {}
        for index, iou in enumerate(ious(sums)):
            name = f"{GROUP}_class_{index}_iou_fraction"
            values[name] = float(iou) if np.isfinite(iou) else None
            if values[name] is None:
                reasons[name] = NO_PIXEL
        values[f"{GROUP}_pixels_count"] = float(true.sum())
        values[f"{GROUP}_classes_count"] = float(len(true))
        values[f"{GROUP}_scored_classes_count"] = float((true + predicted > 0).sum())
        values[f"{GROUP}_true_classes_count"] = float((true > 0).sum())
        return with_intervals(Metrics(values, reasons), [MIOU, PIXELS, ACCURACY], contributions, samples)

    def contributions(self, samples: Samples) -> Mapping[str, Contributions]:
        """Return the true, predicted and correct pixels of each class of each image, for each figure."""
        cells, classes = samples.get(CELLS), samples.get(CLASSES)
        if not len(cells) or not len(classes):
            return {}
        counts = _count_pixels(samples, int(classes[0]))
        figures: dict[str, tuple[Callable[[np.ndarray], np.ndarray], bool]] = {
            MIOU: (_mean_iou, True),
            PIXELS: (_pixel_accuracy, False),
            ACCURACY: (_mean_class_accuracy, True),
        }
        return {
            name: Contributions(counts, value, over_classes=over_classes)
            for name, (value, over_classes) in figures.items()
        }


def _count_pixels(samples: Samples, classes: int) -> Any:
    """Return a sparse array [images, 3 × classes] of the true, the predicted and the correct pixels of each class."""
    from scipy.sparse import csr_array

    per_image = samples.get(CELLS).astype(np.int64)
    true, predicted = (samples.get(f"{GROUP}/{name}_index").astype(np.int64) for name in ("true", "predicted"))
    pixels = samples.get(f"{GROUP}/pixels_count")
    image = np.repeat(np.arange(len(per_image)), per_image)
    known = predicted < classes  # another class of the model has no column
    right = true == predicted
    rows = np.concatenate([image, image[known], image[right]])
    columns = np.concatenate([true, classes + predicted[known], 2 * classes + true[right]])
    amounts = np.concatenate([pixels, pixels[known], pixels[right]])
    return csr_array((amounts, (rows, columns)), shape=(len(per_image), 3 * classes))


def ious(sums: np.ndarray) -> np.ndarray:
    """Return the IoU of each class from sums [..., 3 × classes], NaN for a class without pixels."""
    true, predicted, right = np.split(sums, 3, axis=-1)
    return _divide(right, true + predicted - right)


def _mean_iou(sums: np.ndarray) -> np.ndarray:
    return _mean(ious(sums))


def _pixel_accuracy(sums: np.ndarray) -> np.ndarray:
    true, _, right = np.split(sums, 3, axis=-1)
    return _divide(right.sum(axis=-1), true.sum(axis=-1))


def _mean_class_accuracy(sums: np.ndarray) -> np.ndarray:
    true, _, right = np.split(sums, 3, axis=-1)
    return _mean(_divide(right, true))


def _divide(dividend: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """Return the ratio, NaN if the divisor is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(divisor) > 0, np.asarray(dividend) / divisor, np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of the classes that have a value."""
    counted = np.isfinite(values)
    return _divide(np.where(counted, values, 0.0).sum(axis=-1), counted.sum(axis=-1))
