"""Quality of image features: accuracy of the nearest neighbours, and of a linear probe.

Both classify each image by the labels of other images of the same data set, so that no second data set is needed.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from visionbench.core import (
    HIGHER,
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

NEIGHBOURS, PROBE = "features/neighbours_correct", "features/probe_correct"
FIGURES = {"features_knn_top_1_fraction": NEIGHBOURS, "features_linear_probe_top_1_fraction": PROBE}
MOST_ITERATIONS = 1000


def _features(name: str, meaning: str, **fields: Any) -> MetricDeclaration:
    return MetricDeclaration(
        f"features_{name}_fraction", "fraction", meaning, HIGHER, QUALITY, intervals=(OVER_PICTURES,), **fields
    )


@register("metrics", "features")
@dataclass(frozen=True)
class Features:
    """Options: `k`, the number of neighbours; `folds` and `c`, the number of parts and the inverse strength of the
    regularisation of the linear probe.

    The class of an image is that of most of its `k` nearest neighbours among all other images, by the cosine of the
    embeddings. If two classes have equal numbers, the first in alphabetical order is taken, as in scikit-learn.

    The linear probe is scikit-learn's logistic regression on standardised embeddings. It is trained on all parts of the
    data but one, and classifies the images of that part; each part has the same share of every class.
    """

    stages: ClassVar[tuple[str, ...]] = ("evaluation",)
    reads: ClassVar[frozenset[str]] = frozenset({"features", "label"})
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _features(
            "knn_top_1",
            "Images whose class is that of most of their nearest neighbours",
            title="k-NN top-1",
            translations={"zh": "k-NN top-1"},
            table=True,
            order=100,
            compared=True,
            headline=1,
        ),
        _features(
            "linear_probe_top_1",
            "Images whose class a logistic regression on the embeddings of other images predicts",
            title="probe top-1",
            translations={"zh": "线性探测 top-1"},
            table=True,
            order=101,
            compared=True,
            headline=2,
        ),
        MetricDeclaration("features_pictures_count", "count", "Images whose features were classified"),
        MetricDeclaration("features_classes_count", "count", "Classes to choose from"),
    )

    k: int = 20
    folds: int = 5
    c: float = 1.0

    def __post_init__(self) -> None:
        """Raise ConfigError for an option out of range."""
        for name, value, least in (("k", self.k, 1), ("folds", self.folds, 2)):
            if type(value) is not int or value < least:
                raise ConfigError(f"metrics.features.{name}={value}: not a whole number from {least} up")
        if not (isinstance(self.c, int | float) and 0 < self.c < np.inf):
            raise ConfigError(f"metrics.features.c={self.c}: not a positive number")

    def score(self, predictions: Predictions) -> Samples:
        """Compute for each image whether its neighbours and the linear probe give its class.

        Raises ValueError if an embedding is not finite or is zero.
        """
        embeddings = np.stack(predictions.columns["features"]).astype(np.float64)
        lengths = np.linalg.norm(embeddings, axis=1)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            name = predictions.ids[int(np.argmin(np.isfinite(lengths) & (lengths > 0)))]
            raise ValueError(f"features: the embedding of {name} is zero or not finite")
        labels = list(predictions.columns["label"])
        names, true = np.unique(labels, return_inverse=True)
        series = {"features/classes_count": np.array([float(len(names))])}
        missing: dict[str, str] = {}
        flags: dict[str, str] = {}
        if len(names) < 2:
            missing |= dict.fromkeys(FIGURES.values(), f"all {len(labels)} images have the class '{labels[0]}'")
            return Samples(series, missing)
        if len(labels) <= self.k:
            missing[NEIGHBOURS] = f"{self.k} neighbours need more than {self.k} images, and there are {len(labels)}"
        else:
            series[NEIGHBOURS] = (vote_of_neighbours(embeddings, true, self.k) == true).astype(np.float64)
        rarest, count = min(Counter(labels).items(), key=lambda entry: entry[1])
        if count < self.folds:
            missing[PROBE] = (
                f"the class '{rarest}' has {count} image{'s' if count > 1 else ''}, and {self.folds} folds need "
                f"{self.folds} of each class"
            )
        else:
            predicted, unconverged = probe(embeddings, true, self.folds, self.c)
            series[PROBE] = (predicted == true).astype(np.float64)
            if unconverged:
                fits = f"{unconverged} of {self.folds} fits of the linear probe"
                flags["probe_not_converged"] = f"{fits} did not converge in {MOST_ITERATIONS} steps"
        return Samples(series, missing, flags)

    def compute(self, samples: Samples) -> Metrics:
        """Compute both accuracies with their intervals, and the number of images and classes."""
        values: dict[str, float | None] = {}
        reasons: dict[str, str] = {}
        for name, series in FIGURES.items():
            correct = samples.get(series)
            values[name] = float(correct.mean()) if len(correct) else None
            if not len(correct):
                reasons[name] = samples.why_missing(series)
        classes = samples.get("features/classes_count")
        values["features_classes_count"] = float(classes[0]) if len(classes) else None
        images = max(len(samples.get(series)) for series in FIGURES.values())
        values["features_pictures_count"] = float(images) if images else None
        for name, series in (
            ("features_classes_count", "features/classes_count"),
            ("features_pictures_count", NEIGHBOURS),
        ):
            if values[name] is None:
                reasons[name] = samples.why_missing(series)
        return with_intervals(Metrics(values, reasons), list(FIGURES), self.contributions(samples), samples)

    def contributions(self, samples: Samples) -> dict[str, Contributions]:
        """Return for each image whether its class is predicted."""
        return {
            name: hits_of(samples.get(series) > 0.5) for name, series in FIGURES.items() if len(samples.get(series))
        }


def vote_of_neighbours(embeddings: np.ndarray, classes: np.ndarray, k: int) -> np.ndarray:
    """Return the class of most of the k nearest other images [N], by the cosine of embeddings [N, D].

    `classes` [N] are numbers from 0. Of classes with equal numbers of neighbours, the lowest number is returned.
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(embeddings)
    neighbours = classes[index.kneighbors(return_distance=False)]  # without arguments, an image is not its neighbour
    count = int(classes.max()) + 1
    votes = np.zeros((len(classes), count), np.int32)
    np.add.at(votes, (np.arange(len(classes))[:, None], neighbours), 1)
    most: np.ndarray = votes.argmax(axis=1)
    return most


def probe(embeddings: np.ndarray, classes: np.ndarray, folds: int, c: float) -> tuple[np.ndarray, int]:
    """Return the class [N] that a logistic regression on other folds predicts, and the number of unconverged fits."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    predicted = np.empty_like(classes)
    unconverged = 0
    for training, held_out in StratifiedKFold(folds, shuffle=True, random_state=0).split(embeddings, classes):
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=MOST_ITERATIONS))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            fitted.fit(embeddings[training], classes[training])
        unconverged += any(issubclass(one.category, ConvergenceWarning) for one in caught)
        predicted[held_out] = fitted.predict(embeddings[held_out])
    return predicted, unconverged
