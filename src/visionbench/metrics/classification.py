"""Classification by a head or zero-shot: top-k, and precision, recall and F1 over classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
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
from visionbench.registry import ConfigError, register
from visionbench.statistics.resampling import hits_of, with_intervals

AVERAGES = ("macro", "weighted")
OF_CLASSES = ("precision", "recall", "f1")


TOP_K = "Images whose class is among the best k"
MACRO = "Mean over classes, with equal weight"


def _classification(name: str, meaning: str, **fields: Any) -> MetricDeclaration:
    intervals = (OVER_PICTURES,)
    name = f"classification_{name}_fraction"
    return MetricDeclaration(name, "fraction", meaning, HIGHER, QUALITY, intervals=intervals, **fields)


@register("metrics", "classification")
@dataclass(frozen=True)
class Classification:
    """Options: the `ks` of top-k accuracy.

    A picture is right at k where fewer than k other classes score as high as the true one: ties count against the
    model, so that one which scores all classes equally has an accuracy of 0 and not of chance. Precision, recall and F1
    are of the class that scores highest (the first of such), each averaged over the classes that occur among the truths
    or the answers, as scikit-learn does: `macro` gives these equal weight, `weighted` by how often they are true.
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
        _classification("{precision,recall,f1}_weighted", "Mean over classes, weighted by how often each is the label"),
        MetricDeclaration("classification_pictures_count", "count", "Images that were scored"),
        MetricDeclaration("classification_classes_count", "count", "Classes to choose from"),
    )

    ks: list[int] = field(default_factory=lambda: [1, 5])

    def __post_init__(self) -> None:
        """Raise ConfigError for an option out of range."""
        if not self.ks or any(k < 1 for k in self.ks):
            raise ConfigError(f"metrics.classification.ks: {list(self.ks)} must be one or more numbers from 1 up")

    def score(self, predictions: Predictions) -> Samples:
        """Scores [classes] and the label of each picture → indices of the true and the answered class, and the rank.

        Raises ValueError naming a picture whose label is no class, or whose scores are not finite, and where scores are
        not one for each class.
        """
        at = {name: index for index, name in enumerate(predictions.classes)}
        count = len(predictions.classes)
        shared = {name for name, times in Counter(predictions.classes).items() if times > 1}
        labels, scores = predictions.columns["label"], np.stack(predictions.columns["class_scores"])
        if scores.shape[1:] != (count,):
            raise ValueError(f"classification: scores of shape {scores.shape[1:]} a picture, for {count} classes")
        for name, label, row in zip(predictions.ids, labels, scores, strict=True):
            if label not in at:
                raise ValueError(f"classification: {name} is labelled '{label}', which is none of the {count} classes")
            if label in shared:
                raise ValueError(f"classification: {name} is labelled '{label}', which is the name of several classes")
            if not np.isfinite(row).all():
                raise ValueError(f"classification: {name} has a score that is not finite")
        true = np.array([at[label] for label in labels])
        right = np.take_along_axis(scores, true[:, None], axis=1)
        tied = (scores == right).sum(axis=1) - 1
        series = {
            "classification/true_index": true,
            "classification/predicted_index": scores.argmax(axis=1),
            "classification/true_rank": (scores >= right).sum(axis=1),
            "classification/classes_count": np.array([count]),
        }
        seen = f"{int((tied > 0).sum())} of {len(true)} pictures score another class just as high as the true one"
        return Samples(
            {name: values.astype(np.float64) for name, values in series.items()},
            flags={"tied_scores": seen} if tied.any() else {},
        )

    def compute(self, samples: Samples) -> Metrics:
        """Top-k accuracy; precision, recall and F1, macro and weighted; intervals; how many pictures and classes."""
        rank, count = samples.get("classification/true_rank"), samples.get("classification/classes_count")
        known = bool(len(rank)) and bool(len(count))
        classes = int(count[0]) if known else 0
        found: dict[str, float | str] = {
            f"top_{k}_fraction": f"K = {k} leaves nothing to miss among {classes} classes"
            if k >= classes
            else float((rank <= k).mean())
            for k in self.ks
        }
        averages = _averages(samples) if known else {}
        for name in (f"{what}_{average}_fraction" for what in OF_CLASSES for average in AVERAGES):
            found[name] = averages.get(name, "")
        found |= {"pictures_count": float(len(rank)), "classes_count": float(classes)}
        if not known:
            found = dict.fromkeys(found, samples.why_missing("classification/true_rank"))
        metrics = Metrics(
            {f"classification_{name}": value if isinstance(value, float) else None for name, value in found.items()},
            {f"classification_{name}": value for name, value in found.items() if isinstance(value, str)},
        )
        names = [name for name in metrics.values if name.endswith("_fraction")]
        return with_intervals(metrics, names, self.contributions(samples), samples)

    def contributions(self, samples: Samples) -> dict[str, Contributions]:
        """Of each picture whether it is right at each K, and its true, its answered and its rightly answered class."""
        rank, count = samples.get("classification/true_rank"), samples.get("classification/classes_count")
        if not len(rank) or not len(count):
            return {}
        counts = _class_counts(samples, int(count[0]))
        found = {f"classification_top_{k}_fraction": hits_of(rank <= k) for k in self.ks}
        for what in OF_CLASSES:
            for average in AVERAGES:
                value = partial(_averaged, what, average)
                found[f"classification_{what}_{average}_fraction"] = Contributions(counts, value, over_classes=True)
        return found


def _class_counts(samples: Samples, classes: int) -> Any:
    """A sparse array [pictures, 3 × classes] of ones: the true class, the answered one, the true one where right."""
    from scipy.sparse import csr_array

    true, answered = (samples.get(f"classification/{name}_index").astype(np.int64) for name in ("true", "predicted"))
    right = np.flatnonzero(true == answered)
    rows = np.concatenate([np.arange(len(true)), np.arange(len(true)), right])
    columns = np.concatenate([true, classes + answered, 2 * classes + true[right]])
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(true), 3 * classes))


def _averaged(what: str, average: str, counts: np.ndarray) -> np.ndarray:
    """Precision, recall or F1 from counts [..., 3 × classes], averaged over the classes that occur."""
    true, answered, right = np.split(counts, 3, axis=-1)
    below = {"precision": answered, "recall": true, "f1": (true + answered) / 2}[what]
    scores = np.divide(right, below, out=np.zeros_like(right), where=below > 0)
    weights = ((true + answered) > 0).astype(np.float64) if average == "macro" else true
    return np.asarray((scores * weights).sum(axis=-1) / weights.sum(axis=-1))


def _averages(samples: Samples) -> dict[str, float]:
    """Precision, recall and F1 by torchmetrics."""
    import torch
    from torchmetrics.functional import classification

    true, answered = (
        torch.from_numpy(samples.get(f"classification/{name}_index").astype(np.int64)) for name in ("true", "predicted")
    )
    classes = int(samples.get("classification/classes_count")[0])
    functions = {
        "precision": classification.multiclass_precision,
        "recall": classification.multiclass_recall,
        "f1": classification.multiclass_f1_score,
    }
    return {
        f"{what}_{average}_fraction": float(function(answered, true, num_classes=classes, average=average))  # type: ignore[arg-type]
        for what, function in functions.items()
        for average in AVERAGES
    }
