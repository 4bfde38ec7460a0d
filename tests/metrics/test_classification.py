"""Accuracy, precision, recall and F1, compared with scikit-learn; ties, absent classes and errors."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support, top_k_accuracy_score

from visionbench.core import ConfigError, Predictions, Samples
from visionbench.metrics.classification import Classification
from visionbench.registry import find


def predictions(scores, labels, classes=None):
    scores = np.asarray(scores, np.float32)
    classes = classes or [f"class {index}" for index in range(scores.shape[1])]
    columns = {"class_scores": list(scores), "label": [classes[index] for index in labels]}
    return Predictions([str(index) for index in range(len(scores))], columns, classes)


def random_scores(seed, images=200, classes=9):
    """Return scores that favour the true class. The last class is never true, and the first is never predicted."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes - 1, images)
    scores = rng.standard_normal((images, classes))
    scores[np.arange(images), labels] += 1.5
    scores[:, 0] -= 100
    return scores, labels


def compute(scores, labels, **options):
    metric = Classification(**options)
    return metric.compute(metric.score(predictions(scores, labels)))


@pytest.mark.parametrize("seed", range(3))
def test_precision_recall_and_f1_agree_with_scikit_learn(seed):
    scores, labels = random_scores(seed)
    values = compute(scores, labels).values
    for average in ("macro", "weighted"):
        expected = precision_recall_fscore_support(labels, scores.argmax(1), average=average, zero_division=0)
        for score, value in zip(("precision", "recall", "f1"), expected[:3], strict=True):
            assert values[f"classification_{score}_{average}_fraction"] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_top_k_accuracy_agrees_with_scikit_learn(seed):
    scores, labels = random_scores(seed)
    values = compute(scores, labels, ks=[1, 2, 5]).values
    for k in (1, 2, 5):
        expected = top_k_accuracy_score(labels, scores.astype(np.float32), k=k, labels=range(9))
        assert values[f"classification_top_{k}_fraction"] == pytest.approx(expected)


def test_the_registry_finds_the_metric_by_name():
    assert find("metrics", "classification") is Classification


def test_a_class_that_is_neither_a_label_nor_predicted_does_not_count_in_the_macro_average():
    """Only two of a thousand classes occur, as in a run on a few folders of ImageNet."""
    scores = np.zeros((4, 1000))
    scores[np.arange(4), [0, 0, 7, 7]] = 1
    assert compute(scores, [0, 0, 7, 7]).values["classification_f1_macro_fraction"] == 1


def test_a_model_that_scores_all_classes_equally_has_an_accuracy_of_zero():
    metric = Classification()
    samples = metric.score(predictions(np.ones((6, 8)), [0, 1, 2, 0, 1, 2]))
    values = metric.compute(samples).values
    assert values["classification_top_1_fraction"] == 0
    assert values["classification_top_5_fraction"] == 0
    assert samples.flags == {"tied_scores": "6 of 6 images have another class with the score of their own class"}


def test_top_k_is_none_if_k_is_not_below_the_number_of_classes():
    metrics = compute(np.eye(5), range(5))
    assert metrics.values["classification_top_1_fraction"] == 1
    assert metrics.values["classification_top_5_fraction"] is None
    assert "K = 5 is always reached with 5 classes" in metrics.reasons["classification_top_5_fraction"]


def test_images_and_classes_are_counted():
    values = compute(*random_scores(0)).values
    assert values["classification_pictures_count"] == 200
    assert values["classification_classes_count"] == 9


def test_the_error_for_a_label_that_is_no_class_has_the_id_of_the_image():
    labelled = predictions(np.eye(3), [0, 1, 2])
    labelled.columns["label"][1] = "elephant"
    with pytest.raises(ValueError, match="1 is labelled 'elephant', which is none of the 3 classes"):
        Classification().score(labelled)


def test_a_number_of_scores_other_than_the_number_of_classes_is_refused():
    with pytest.raises(ValueError, match=r"scores of shape \(3,\) per image, for 4 classes"):
        Classification().score(predictions(np.eye(3), [0, 1, 2], ["a", "b", "c", "d"]))


def test_the_first_of_several_classes_with_the_highest_score_is_predicted():
    samples = Classification().score(predictions([[0, 2, 2, 1]], [2]))
    assert samples.series["classification/predicted_index"].tolist() == [1]
    assert samples.series["classification/true_rank"].tolist() == [2]
    assert samples.flags


def test_metrics_can_be_recomputed_from_the_series_alone():
    samples = Classification().score(predictions(*random_scores(1)))
    assert Classification().compute(Samples(samples.series)) == Classification().compute(samples)


def test_the_error_for_scores_that_are_not_finite_has_the_id_of_the_image():
    scores = np.eye(3)
    scores[2, 0] = np.inf
    with pytest.raises(ValueError, match="2 has a score that is not finite"):
        Classification().score(predictions(scores, [0, 1, 2]))


@pytest.mark.parametrize("ks", [[], [0], [1, -2]])
def test_ks_out_of_range_are_refused(ks):
    with pytest.raises(ConfigError, match=r"metrics\.classification\.ks"):
        Classification(ks=ks)


def test_two_classes_may_share_a_name_that_no_image_is_labelled_with():
    samples = Classification().score(predictions(np.eye(4)[:2], [0, 1], ["hen", "tench", "crane", "crane"]))
    assert samples.series["classification/classes_count"].tolist() == [4]
    assert samples.series["classification/true_rank"].tolist() == [1, 1]


def test_an_image_labelled_with_the_name_of_two_classes_is_refused():
    with pytest.raises(ValueError, match="1 is labelled 'crane', which is the name of several classes"):
        Classification().score(predictions(np.eye(4)[:2], [0, 2], ["hen", "tench", "crane", "crane"]))
