"""Classification with a head or zero-shot: top-k accuracy, and precision, recall and F1 over classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np

from visionbench.core import (
    HIGHER,
    LOWER,
    NO_CLASS,
    OVER_PICTURES,
    QUALITY,
    ConfigError,
    Contributions,
    MetricDeclaration,
    Metrics,
    Predictions,
    Samples,
)
from visionbench.registry import register
from visionbench.statistics.resampling import hits_of, with_intervals

AVERAGES = ("macro", "weighted")
SCORES = ("precision", "recall", "f1")
TOP_K = "Images whose class is among the best k"
MACRO = "Mean over classes, with equal weight"
NAMED = "classification/no_class_count"
"""The series of a model that names one class in words: 1 for an answer that names none, else 0."""
ONE_CLASS = "the model names one class, so there is no order of the classes"


def _classification(name: str, meaning: str, **fields: Any) -> MetricDeclaration:
    intervals = (OVER_PICTURES,)
    name = f"classification_{name}_fraction"
    return MetricDeclaration(name, "fraction", meaning, HIGHER, QUALITY, intervals=intervals, **fields)


@register("metrics", "classification")
@dataclass(frozen=True)
class Classification:
    """Options: the `ks` of top-k accuracy.

    An image is correct at k if fewer than k other classes have a score as high as its own class. Ties count against the
    model, so a model with equal scores for all classes has an accuracy of 0. Precision, recall and F1 are those of the
    class with the highest score (the first of equal scores), averaged over the classes that occur among the labels or
    the predictions, as in scikit-learn: `macro` with equal weights, `weighted` by the number of images with the label.

    A model that names one class in words has the column `no_class`. An answer that names none of the classes is wrong;
    no class counts as predicted for it. There is no order of the classes, so only top-1 accuracy exists.
    """

    stages: ClassVar[tuple[str, ...]] = ("evaluation",)
    reads: ClassVar[frozenset[str]] = frozenset({"class_scores", "label"})
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _classification("top_1", TOP_K, title="top-1", table=True, order=90, compared=True, headline=1),
        _classification("top_5", TOP_K, title="top-5", table=True, order=91, compared=True, headline=2),
        _classification("top_<k>", TOP_K, order=91, compared=True),
        _classification("f1_macro", MACRO, title="F1", table=True, order=92),
        _classification("{precision,recall}_macro", MACRO),
        _classification("{precision,recall,f1}_weighted", "Mean over classes, weighted by the images with the label"),
        MetricDeclaration(
            "classification_no_class_fraction",
            "fraction",
            "Answers in words that name none of the classes",
            LOWER,
            QUALITY,
            intervals=(OVER_PICTURES,),
        ),
        MetricDeclaration("classification_pictures_count", "count", "Images that were scored"),
        MetricDeclaration("classification_classes_count", "count", "Classes to choose from"),
    )

    ks: list[int] = field(default_factory=lambda: [1, 5])

    def __post_init__(self) -> None:
        """Raise ConfigError for an option out of range."""
        if not self.ks or any(k < 1 for k in self.ks):
            raise ConfigError(f"metrics.classification.ks: {list(self.ks)} must be one or more numbers from 1 up")

    def score(self, predictions: Predictions) -> Samples:
        """Compute the index of the true and of the predicted class, and the rank of the true class, of each image.

        Raises ValueError if a label is no class, if scores are not finite, or if there is not one score for each class.
        """
        indices = {name: index for index, name in enumerate(predictions.classes)}
        count = len(predictions.classes)
        shared = {name for name, times in Counter(predictions.classes).items() if times > 1}
        labels, scores = predictions.columns["label"], np.stack(predictions.columns["class_scores"])
        if scores.shape[1:] != (count,):
            raise ValueError(f"classification: scores of shape {scores.shape[1:]} per image, for {count} classes")
        for name, label, row in zip(predictions.ids, labels, scores, strict=True):
            if label not in indices:
                raise ValueError(f"classification: {name} is labelled '{label}', which is none of the {count} classes")
            if label in shared:
                raise ValueError(f"classification: {name} is labelled '{label}', which is the name of several classes")
            if not np.isfinite(row).all():
                raise ValueError(f"classification: {name} has a score that is not finite")
        true = np.array([indices[label] for label in labels])
        right = np.take_along_axis(scores, true[:, None], axis=1)
        tied = (scores == right).sum(axis=1) - 1
        series = {
            "classification/true_index": true,
            "classification/predicted_index": scores.argmax(axis=1),
            "classification/true_rank": (scores >= right).sum(axis=1),
            "classification/classes_count": np.array([count]),
        }
        if (unnamed := predictions.columns.get(NO_CLASS)) is not None:
            series["classification/no_class_count"] = np.array(unnamed)
            return Samples({name: values.astype(np.float64) for name, values in series.items()}, flags=_flags(unnamed))
        detail = f"{int((tied > 0).sum())} of {len(true)} images have another class with the score of their own class"
        return Samples(
            {name: values.astype(np.float64) for name, values in series.items()},
            flags={"tied_scores": detail} if tied.any() else {},
        )

    def compute(self, samples: Samples) -> Metrics:
        """Compute top-k accuracy; precision, recall and F1; intervals; the number of images and classes."""
        rank, count = samples.get("classification/true_rank"), samples.get("classification/classes_count")
        known = bool(len(rank)) and bool(len(count))
        classes = int(count[0]) if known else 0
        values: dict[str, float | str] = {
            f"top_{k}_fraction": f"K = {k} is always reached with {classes} classes"
            if k >= classes
            else float((rank <= k).mean())
            for k in self.ks
        }
        named = len(samples.get(NAMED)) == len(rank) > 0
        if named:
            values |= {f"top_{k}_fraction": ONE_CLASS for k in self.ks if k > 1}
            values["no_class_fraction"] = float(samples.get(NAMED).mean())
        averages = (_averages_of_counts(samples, classes) if named else _averages(samples)) if known else {}
        for name in (f"{score}_{average}_fraction" for score in SCORES for average in AVERAGES):
            values[name] = averages.get(name, "")
        values |= {"pictures_count": float(len(rank)), "classes_count": float(classes)}
        if not known:
            values = dict.fromkeys(values, samples.why_missing("classification/true_rank"))
        metrics = Metrics(
            {f"classification_{name}": value if isinstance(value, float) else None for name, value in values.items()},
            {f"classification_{name}": value for name, value in values.items() if isinstance(value, str)},
        )
        names = [name for name in metrics.values if name.endswith("_fraction")]
        return with_intervals(metrics, names, self.contributions(samples), samples)

    def contributions(self, samples: Samples) -> dict[str, Contributions]:
        """Return for each image whether it is correct at each K, and the counts of its classes."""
        rank, count = samples.get("classification/true_rank"), samples.get("classification/classes_count")
        if not len(rank) or not len(count):
            return {}
        counts = _class_counts(samples, int(count[0]))
        ks = [k for k in self.ks if k == 1 or not len(samples.get(NAMED))]
        contributions = {f"classification_top_{k}_fraction": hits_of(rank <= k) for k in ks}
        if len(samples.get(NAMED)):
            contributions["classification_no_class_fraction"] = hits_of(samples.get(NAMED) == 1)
        for score in SCORES:
            for average in AVERAGES:
                value = partial(_averaged, score, average)
                contributions[f"classification_{score}_{average}_fraction"] = Contributions(
                    counts, value, over_classes=True
                )
        return contributions


def _class_counts(samples: Samples, classes: int) -> Any:
    """Return a sparse array [images, 3 × classes] of ones: the true, the predicted, the correct class."""
    from scipy.sparse import csr_array

    true, predicted = (samples.get(f"classification/{name}_index").astype(np.int64) for name in ("true", "predicted"))
    unnamed = samples.get(NAMED)
    answered = np.flatnonzero(unnamed == 0) if len(unnamed) else np.arange(len(true))
    right = answered[true[answered] == predicted[answered]]
    rows = np.concatenate([np.arange(len(true)), answered, right])
    columns = np.concatenate([true, classes + predicted[answered], 2 * classes + true[right]])
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(true), 3 * classes))


def _averaged(score: str, average: str, counts: np.ndarray) -> np.ndarray:
    """Return precision, recall or F1 from counts [..., 3 × classes], averaged over the classes that occur."""
    true, predicted, right = np.split(counts, 3, axis=-1)
    below = {"precision": predicted, "recall": true, "f1": (true + predicted) / 2}[score]
    scores = np.divide(right, below, out=np.zeros_like(right), where=below > 0)
    weights = ((true + predicted) > 0).astype(np.float64) if average == "macro" else true
    return np.asarray((scores * weights).sum(axis=-1) / weights.sum(axis=-1))


def _flags(unnamed: Sequence[bool]) -> dict[str, str]:
    """Return a flag if answers name none of the classes, because they count as wrong."""
    count = sum(map(bool, unnamed))
    detail = f"{count} of {len(unnamed)} answers name none of the classes, and count as wrong"
    return {"answers_without_class": detail} if count else {}


def _averages_of_counts(samples: Samples, classes: int) -> dict[str, float]:
    """Compute precision, recall and F1 from the counts of the classes, for each way of averaging."""
    counts = np.asarray(_class_counts(samples, classes).sum(axis=0), float)
    return {
        f"{score}_{average}_fraction": float(_averaged(score, average, counts))
        for score in SCORES
        for average in AVERAGES
    }


def _averages(samples: Samples) -> dict[str, float]:
    """Compute precision, recall and F1 with torchmetrics, for each way of averaging."""
    import torch
    from torchmetrics.functional import classification

    true, predicted = (
        torch.from_numpy(samples.get(f"classification/{name}_index").astype(np.int64)) for name in ("true", "predicted")
    )
    classes = int(samples.get("classification/classes_count")[0])
    functions = {
        "precision": classification.multiclass_precision,
        "recall": classification.multiclass_recall,
        "f1": classification.multiclass_f1_score,
    }
    return {
        f"{score}_{average}_fraction": float(function(predicted, true, num_classes=classes, average=average))  # type: ignore[arg-type]
        for score, function in functions.items()
        for average in AVERAGES
    }
