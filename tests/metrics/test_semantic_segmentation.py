"""IoU of classes and accuracies of pixels, compared with numpy by hand and with scikit-learn, and their intervals."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score, recall_score

from visionbench.core import IGNORED, OVER_PICTURES, Predictions, Samples, interval_ends
from visionbench.metrics.semantic_segmentation import GROUP, SemanticSegmentation
from visionbench.registry import find

METRIC = SemanticSegmentation()
CLASSES = 5


def random_maps(seed, images=40, other=False):
    """Return true and predicted maps of different sizes. Class 4 neither is true nor is predicted, and a tenth of the
    pixels is ignored. With `other`, some pixels have a class of the model that the data does not have."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(images):
        size = tuple(rng.integers(4, 12, 2))
        true = rng.choice(CLASSES - 1, size, p=[0.7, 0.2, 0.1, 0.0])
        wrong = rng.random(size) < rng.uniform(0, 0.6)
        predicted = np.where(wrong, rng.integers(0, CLASSES - 1, size), true)
        if other:
            predicted = np.where(rng.random(size) < 0.1, CLASSES, predicted)
        pairs.append((np.where(rng.random(size) < 0.1, IGNORED, true), predicted))
    return pairs


def samples(pairs, classes=CLASSES):
    rows = [METRIC.compare({"class_map": true, "predicted_map": predicted}) for true, predicted in pairs]
    names = [f"class {index}" for index in range(classes)]
    columns = {"class_confusion": [row["class_confusion"] for row in rows]}
    return METRIC.score(Predictions([str(index) for index in range(len(rows))], columns, names))


def compute(pairs, **options):
    return METRIC.compute(samples(pairs, **options)).values


def pixels(pairs):
    """Return the true and the predicted classes of all pixels that count."""
    true, predicted = (np.concatenate([pair[index].ravel() for pair in pairs]) for index in (0, 1))
    return true[true != IGNORED], predicted[true != IGNORED]


def test_the_registry_finds_the_metric_by_name():
    assert find("metrics", "semantic_segmentation") is SemanticSegmentation


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_figures_agree_with_numpy_by_hand(seed, other):
    pairs = random_maps(seed, other=other)
    true, predicted = pixels(pairs)
    confusion = np.zeros((CLASSES, CLASSES + 1))
    for one, guess in zip(true, predicted, strict=True):
        confusion[one, guess] += 1
    right = confusion.diagonal()
    union = confusion.sum(1) + confusion[:, :CLASSES].sum(0) - right
    values = compute(pairs)
    for index in range(CLASSES):
        value = values[f"{GROUP}_class_{index}_iou_fraction"]
        assert value == (pytest.approx(right[index] / union[index]) if union[index] else None)
    assert values[f"{GROUP}_miou_fraction"] == pytest.approx(np.mean(right[union > 0] / union[union > 0]))
    assert values[f"{GROUP}_pixel_accuracy_fraction"] == pytest.approx(right.sum() / confusion.sum())
    rows = confusion.sum(1)
    assert values[f"{GROUP}_mean_class_accuracy_fraction"] == pytest.approx(np.mean(right[rows > 0] / rows[rows > 0]))
    assert values[f"{GROUP}_pixels_count"] == len(true)
    assert values[f"{GROUP}_classes_count"] == CLASSES
    assert values[f"{GROUP}_scored_classes_count"] == (union > 0).sum()
    assert values[f"{GROUP}_true_classes_count"] == (rows > 0).sum()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(3))
def test_the_figures_agree_with_scikit_learn(seed):
    pairs = random_maps(seed)
    true, predicted = pixels(pairs)
    values = compute(pairs)
    assert values[f"{GROUP}_miou_fraction"] == pytest.approx(jaccard_score(true, predicted, average="macro"))
    assert values[f"{GROUP}_pixel_accuracy_fraction"] == pytest.approx(accuracy_score(true, predicted))
    recall = recall_score(true, predicted, labels=np.unique(true), average="macro")
    assert values[f"{GROUP}_mean_class_accuracy_fraction"] == pytest.approx(recall)


def test_pixels_are_pooled_and_not_averaged_over_images():
    """Image 1 has 90 of 100 pixels of class 1 correct, image 2 one of 2."""
    first = np.ones((10, 10), int), np.where(np.arange(100).reshape(10, 10) < 90, 1, 0)
    second = np.array([[1, 1]]), np.array([[1, 0]])
    assert compute([first, second], classes=2)[f"{GROUP}_class_1_iou_fraction"] == pytest.approx(91 / 102)


def test_a_class_of_the_model_that_the_data_does_not_have_is_wrong_and_has_no_iou():
    true, predicted = np.array([[0, 1, 1, 1]]), np.array([[0, 1, 2, 2]])
    values = compute([(true, predicted)], classes=2)
    assert values[f"{GROUP}_class_1_iou_fraction"] == pytest.approx(1 / 3)
    assert values[f"{GROUP}_pixel_accuracy_fraction"] == pytest.approx(0.5)
    assert f"{GROUP}_class_2_iou_fraction" not in values


def test_a_class_without_pixels_is_excluded_with_a_reason():
    metrics = METRIC.compute(samples([(np.array([[0, 1]]), np.array([[0, 1]]))], classes=3))
    assert metrics.values[f"{GROUP}_miou_fraction"] == 1
    assert metrics.values[f"{GROUP}_scored_classes_count"] == 2
    assert metrics.values[f"{GROUP}_class_2_iou_fraction"] is None
    assert "no pixel" in metrics.reasons[f"{GROUP}_class_2_iou_fraction"]


def test_a_class_that_is_only_predicted_has_an_iou_of_zero():
    values = compute([(np.array([[0, 0]]), np.array([[0, 1]]))], classes=2)
    assert values[f"{GROUP}_miou_fraction"] == pytest.approx((0.5 + 0) / 2)
    assert values[f"{GROUP}_mean_class_accuracy_fraction"] == 0.5


def test_a_model_that_predicts_one_class_everywhere_is_a_fault():
    pairs = random_maps(0)
    constant = [(true, np.zeros_like(predicted)) for true, predicted in pairs]
    assert "one class for every pixel of all 40 images" in samples(constant).faults["answers_equal"]
    assert not samples(pairs).faults


@pytest.mark.parametrize("name", ["miou", "pixel_accuracy", "mean_class_accuracy"])
def test_intervals_are_those_of_a_bootstrap_of_confusion_matrices_over_images(name):
    """The interval is compared with one that pools the pixels of resampled images again."""
    pairs = random_maps(1, images=60)
    values = compute(pairs)
    metric = f"{GROUP}_{name}_fraction"
    low, high = (values[end] for end in interval_ends(metric))
    rng = np.random.default_rng(5)
    drawn = [compute([pairs[index] for index in rng.integers(0, 60, 60)])[metric] for _ in range(300)]
    assert low < values[metric] < high
    assert high - low == pytest.approx(np.ptp(np.quantile(drawn, [0.025, 0.975])), rel=0.2)


def test_the_contributions_of_all_images_give_the_figures():
    drawn = samples(random_maps(2))
    values = METRIC.compute(drawn).values
    for name, one in METRIC.contributions(drawn).items():
        assert float(one.value(np.asarray(one.parts.sum(axis=0)).ravel())) == pytest.approx(values[name])


def test_without_samples_each_figure_has_a_reason():
    metrics = METRIC.compute(Samples(missing={f"{GROUP}/cells_per_picture": "the pass failed"}))
    assert set(metrics.values.values()) == {None}
    assert set(metrics.reasons.values()) == {"the pass failed"}
    assert f"{GROUP}_miou_fraction" in metrics.values


def test_the_headline_is_the_mean_iou_with_an_interval():
    (first,) = [one for one in METRIC.declarations if one.headline == 1]
    assert (first.name, first.intervals) == (f"{GROUP}_miou_fraction", (OVER_PICTURES,))
