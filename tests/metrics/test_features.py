"""Nearest neighbours and linear probe, compared with scikit-learn and with a count by hand; classes without enough
images."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from visionbench.core import ConfigError, Predictions
from visionbench.metrics.features import Features
from visionbench.registry import find

KNN, PROBE = "features_knn_top_1_fraction", "features_linear_probe_top_1_fraction"


def predictions(embeddings, labels):
    columns = {"features": list(np.asarray(embeddings, np.float32)), "label": [f"class {one}" for one in labels]}
    return Predictions([f"image {index}" for index in range(len(labels))], columns)


def clustered(seed, images=120, classes=4, spread=1.0):
    """Return embeddings around a centre for each class, and the classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    return rng.normal(size=(classes, 8))[labels] + spread * rng.normal(size=(images, 8)), labels


def compute(embeddings, labels, **options):
    metric = Features(**options)
    return metric.compute(metric.score(predictions(embeddings, labels)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 5, 20])
def test_neighbours_agree_with_scikit_learn_that_leaves_one_image_out(seed, k):
    embeddings, labels = clustered(seed)
    embeddings = embeddings.astype(np.float32).astype(np.float64)
    predicted = []
    for left_out in range(len(labels)):
        others = np.arange(len(labels)) != left_out
        model = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(embeddings[others], labels[others])
        predicted.append(model.predict(embeddings[left_out : left_out + 1])[0])
    assert compute(embeddings, labels, k=k).values[KNN] == pytest.approx((np.array(predicted) == labels).mean())


@pytest.mark.parametrize("seed", range(3))
def test_the_probe_agrees_with_scikit_learns_cross_validation(seed):
    embeddings, labels = clustered(seed, spread=1.5)
    embeddings = embeddings.astype(np.float32).astype(np.float64)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=1000))
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    expected = (cross_val_predict(model, embeddings, labels, cv=folds) == labels).mean()
    value = compute(embeddings, labels, folds=4, c=0.5).values[PROBE]
    assert 0.3 < value < 1
    assert value == pytest.approx(expected)


def test_an_image_is_not_its_own_neighbour():
    embeddings = [[1, 0], [1, 0.01], [0, 1], [0.01, 1]]
    assert compute(embeddings, [0, 1, 0, 1], k=1, folds=2).values[KNN] == 0
    assert compute(embeddings, [0, 0, 1, 1], k=1, folds=2).values[KNN] == 1


def test_the_length_of_an_embedding_does_not_matter_for_neighbours():
    embeddings, labels = clustered(0)
    scaled = embeddings * np.linspace(0.1, 100, len(labels))[:, None]
    assert compute(embeddings, labels).values[KNN] == compute(scaled, labels).values[KNN]


def test_the_figures_have_intervals_and_counts():
    values = compute(*clustered(1)).values
    assert values["features_classes_count"] == 4
    assert values["features_pictures_count"] == 120
    ends = [name for name in values if name.startswith("features_knn_top_1") and name != KNN]
    assert len(ends) == 2
    low, high = (values[name] for name in ends)
    assert low < values[KNN] <= high


def test_too_few_images_are_a_reason_and_not_a_figure():
    embeddings, labels = clustered(0, images=20)
    metrics = compute(embeddings, labels, k=20)
    assert metrics.values[KNN] is None
    assert metrics.reasons[KNN] == "20 neighbours need more than 20 images, and there are 20"
    assert metrics.values[PROBE] is not None
    metrics = compute(embeddings, [0] * 18 + [1] * 2, k=3)
    assert metrics.reasons[PROBE] == "the class 'class 1' has 2 images, and 5 folds need 5 of each class"
    assert metrics.values[KNN] is not None


def test_a_single_class_has_no_figure():
    metrics = compute(clustered(0)[0], [3] * 120)
    assert metrics.values[KNN] is metrics.values[PROBE] is None
    assert metrics.reasons[KNN] == "all 120 images have the class 'class 3'"


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_embedding_without_a_direction_is_an_error(value):
    embeddings, labels = clustered(0)
    embeddings[7] = value
    with pytest.raises(ValueError, match="embedding of image 7 is zero or not finite"):
        compute(embeddings, labels)


def test_a_probe_that_does_not_converge_is_flagged(monkeypatch):
    monkeypatch.setattr("visionbench.metrics.features.MOST_ITERATIONS", 1)
    samples = Features().score(predictions(*clustered(0)))
    assert samples.flags == {"probe_not_converged": "5 of 5 fits of the linear probe did not converge in 1 steps"}


@pytest.mark.parametrize(
    ("option", "value"), [("k", 0), ("k", 2.5), ("k", True), ("folds", 1), ("c", 0), ("c", np.inf), ("c", "1")]
)
def test_an_option_out_of_range_is_refused(option, value):
    with pytest.raises(ConfigError, match=f"metrics.features.{option}="):
        Features(**{option: value})


def test_the_registry_finds_the_metric_by_name():
    assert find("metrics", "features") is Features
