"""Average precision and average recall of boxes, compared with COCO's evaluation of the same files."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visionbench.core import Predictions, Samples
from visionbench.metrics.detection import FIGURES, Detection
from visionbench.registry import find
from visionbench.statistics.resampling import difference

SIDE = 300
CLASSES = ["cat", "dog", "bird", "unused", "only a crowd"]


def random_data(seed, images=25, ties=True):
    """Return annotated and predicted boxes by image, with crowd regions, ties, and images without instances."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for image in range(images):
        count = 0 if image % 5 == 0 else int(rng.integers(1, 6))
        boxes = np.concatenate([rng.uniform(0, 150, (count, 2)), rng.uniform(5, 140, (count, 2))], axis=1)
        kinds, crowds = rng.integers(0, 3, count), rng.random(count) < 0.15
        kinds[crowds & (rng.random(count) < 0.5)] = 4
        crowds |= kinds == 4
        areas = boxes[:, 2] * boxes[:, 3] * rng.uniform(0.5, 1, count)
        truths.append((boxes, kinds, areas, crowds))
        near = np.repeat(boxes, 3, axis=0) + rng.normal(0, 6, (3 * count, 4))
        other = np.concatenate([rng.uniform(0, 150, (4, 2)), rng.uniform(5, 140, (4, 2))], axis=1)
        own = np.concatenate([near, other])
        own[:, 2:] = own[:, 2:].clip(1)
        labels = np.concatenate([np.repeat(kinds, 3), rng.integers(0, 5, 4)])
        wrong = rng.random(len(labels)) < 0.2
        labels[wrong] = rng.integers(0, 5, wrong.sum())
        scores = rng.random(len(labels))
        scores = np.round(scores, 1) if ties else scores
        found.append((own, scores, labels))
    return truths, found


def predictions(truths, found):
    names = ("truth_boxes", "truth_classes", "truth_areas", "truth_crowds")
    columns = {name: list(column) for name, column in zip(names, zip(*truths, strict=True), strict=True)}
    order = [np.argsort(-scores, kind="stable") for _, scores, _ in found]
    for index, name in enumerate(("boxes", "box_scores", "box_classes")):
        columns[name] = [one[index][own] for one, own in zip(found, order, strict=True)]
    return Predictions([f"image {index}" for index in range(len(truths))], columns, CLASSES)


def coco_stats(truths, found, tmp_path):
    """Return COCOeval's 12 figures of the files that a user of pycocotools would write."""
    annotations, results = [], []
    for image, (boxes, kinds, areas, crowds) in enumerate(truths, start=1):
        for box, kind, area, crowd in zip(boxes, kinds, areas, crowds, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(kind) + 10,
                    "bbox": box.tolist(),
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    for image, (boxes, scores, labels) in enumerate(found, start=1):
        for box, score, label in zip(boxes, scores, labels, strict=True):
            row = {"image_id": image, "category_id": int(label) + 10, "bbox": box.tolist(), "score": float(score)}
            results.append(row)
    content = {
        "images": [{"id": image, "height": SIDE, "width": SIDE} for image in range(1, len(truths) + 1)],
        "categories": [{"id": index + 10, "name": name} for index, name in enumerate(CLASSES)],
        "annotations": annotations,
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(tmp_path / "instances.json")
        evaluated = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return evaluated.stats


def compute(truths, found):
    detection = Detection()
    return detection.compute(detection.score(predictions(truths, found)))


@pytest.mark.parametrize("seed", range(4))
def test_all_figures_are_those_of_cocoeval_with_crowds_ties_and_empty_images(seed, tmp_path):
    truths, found = random_data(seed)
    values = compute(truths, found).values
    assert [values[f"detection_{name}_fraction"] for name in FIGURES] == pytest.approx(
        coco_stats(truths, found, tmp_path), abs=1e-12
    )
    assert 0 < values["detection_map_fraction"] < values["detection_map_50_fraction"] < 1
    instances = sum((~crowds).sum() for *_, crowds in truths)
    assert values["detection_instances_count"] == instances
    assert values["detection_classes_count"] == 3


def test_figures_of_stored_samples_are_the_same(tmp_path):
    samples = Detection().score(predictions(*random_data(5)))
    stored = Samples({name: np.array(series.tolist()) for name, series in samples.series.items()})
    assert Detection().compute(stored) == Detection().compute(samples)
    assert all(series.dtype == np.float64 and series.ndim == 1 for series in samples.series.values())


def test_a_box_in_a_crowd_region_is_neither_correct_nor_wrong():
    boxes = np.array([[10.0, 10, 40, 40], [100, 100, 150, 150]])
    truths = [(boxes, np.array([0, 0]), boxes[:, 2] * boxes[:, 3], np.array([False, True]))]
    inside = np.array([[110.0, 110, 20, 20], [150, 150, 30, 30]])
    found = [(np.concatenate([inside, boxes[:1]]), np.array([0.9, 0.8, 0.7]), np.array([0, 0, 0]))]
    assert compute(truths, found).values["detection_map_fraction"] == pytest.approx(1)
    outside = [(np.concatenate([inside - [100, 0, 0, 0], boxes[:1]]), *found[0][1:])]
    assert compute(truths, outside).values["detection_map_fraction"] == pytest.approx(1 / 3)


def test_boxes_in_an_image_without_instances_are_wrong():
    box, none = np.array([[10.0, 10, 40, 40]]), np.zeros((0, 4))
    empty = (none, np.zeros(0, int), np.zeros(0), np.zeros(0, bool))
    truths = [(box, np.array([0]), np.array([1600.0]), np.array([False])), empty]
    good, bad = (box, np.array([0.5]), np.array([0])), (box, np.array([0.9]), np.array([0]))
    nothing = (none, np.zeros(0), np.zeros(0, int))
    assert compute(truths, [good, nothing]).values["detection_map_fraction"] == pytest.approx(1)
    assert compute(truths, [good, bad]).values["detection_map_fraction"] == pytest.approx(0.5)


def test_a_class_without_an_instance_does_not_change_the_mean():
    box = np.array([[10.0, 10, 40, 40]])
    truths = [(box, np.array([0]), np.array([1600.0]), np.array([False]))]
    found = [(np.repeat(box, 3, axis=0), np.array([0.9, 0.8, 0.7]), np.array([3, 0, 2]))]
    metrics = compute(truths, found)
    assert metrics.values["detection_map_fraction"] == pytest.approx(1)
    assert metrics.values["detection_map_large_fraction"] is None
    assert metrics.reasons["detection_map_large_fraction"] == "no instance of the range 'large' of areas is annotated"


def test_without_a_predicted_box_all_figures_are_zero():
    box, none = np.array([[10.0, 10, 40, 40]]), (np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    truths = [(box, np.array([0]), np.array([1600.0]), np.array([False]))]
    values = compute(truths, [none]).values
    assert values["detection_map_fraction"] == values["detection_average_recall_100_fraction"] == 0


def test_without_an_instance_every_figure_has_a_reason():
    empty = (np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), np.zeros(0, bool))
    box = (np.array([[10.0, 10, 40, 40]]), np.array([0.5]), np.array([0]))
    metrics = compute([empty, empty], [box, box])
    assert metrics.values["detection_map_fraction"] is None
    assert metrics.reasons["detection_map_fraction"] == "no instance is annotated"
    assert metrics.values["detection_instances_count"] == 0


def test_nothing_is_printed(capsys):
    compute(*random_data(1))
    assert capsys.readouterr() == ("", "")


def test_the_group_is_registered_with_the_columns_of_detectors():
    detection = find("metrics", "detection")
    for family in ("object_detector", "zero_shot_detector"):
        assert {"boxes", "box_scores", "box_classes"} == find("models", family).predicts & detection.reads


def repeated(data, times):
    """Return the images, each as many times as `times` says, in the order of the images."""
    return [one for one, count in zip(data, times, strict=True) for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_with_a_weight_of_one_the_contributions_give_the_figures(seed, tmp_path):
    truths, found = random_data(seed)
    samples = Detection().score(predictions(truths, found))
    stats = dict(zip(FIGURES, coco_stats(truths, found, tmp_path), strict=True))
    for name, one in Detection().contributions(samples).items():
        figure = one.value(np.asarray(one.parts.sum(axis=0)).ravel())
        assert figure == pytest.approx(stats[name.removeprefix("detection_").removesuffix("_fraction")], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_has_the_figures_of_a_data_set_with_the_repeated_images(seed, tmp_path):
    truths, found = random_data(seed, ties=False)  # repeated images have ties in the order of the images
    samples = Detection().score(predictions(truths, found))
    times = np.random.default_rng(seed).integers(0, 4, len(truths))
    stats = dict(zip(FIGURES, coco_stats(repeated(truths, times), repeated(found, times), tmp_path), strict=True))
    for name, one in Detection().contributions(samples).items():
        figure = one.value(times[None].astype(float) @ one.parts)
        assert figure == pytest.approx([stats[name.removeprefix("detection_").removesuffix("_fraction")]], abs=1e-12)


def worse(found, share, seed=0):
    """Return predictions in which boxes of a share of the images are moved."""
    rng = np.random.default_rng(seed)
    moved = rng.random(len(found)) < share
    return [
        (boxes + [60 * move, 0, 0, 0], scores, labels)
        for (boxes, scores, labels), move in zip(found, moved, strict=True)
    ]


def contributions(truths, found):
    return Detection().contributions(Detection().score(predictions(truths, found)))["detection_map_fraction"]


def test_a_difference_between_two_models_is_decided_image_by_image():
    truths, found = random_data(0, images=60)
    base = contributions(truths, found)
    same = difference(base, contributions(truths, found))
    assert (same.value, same.shown, same.differing) == (0, False, 0)
    moved = difference(base, contributions(truths, worse(found, 0.7)))
    assert moved.value < 0 and moved.shown
    assert moved.interval[1] < 0
    swapped = difference(contributions(truths, worse(found, 0.7)), base)
    assert swapped.value == pytest.approx(-moved.value)
    assert swapped.shown and swapped.differing == moved.differing > 10


def test_a_change_of_one_image_is_not_shown():
    truths, found = random_data(0, images=60)
    changed = [*worse(found[:3], 1), *found[3:]]
    few = difference(contributions(truths, found), contributions(truths, changed))
    assert 1 <= few.differing <= 3
    assert not few.shown


def test_an_interval_contains_the_figure_and_narrows_with_more_images():
    widths = []
    for images in (30, 240):
        values = compute(*random_data(1, images)).values
        low, high = values["detection_map_low_fraction"], values["detection_map_high_fraction"]
        assert low < values["detection_map_fraction"] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 1.8


def test_two_results_together_are_those_of_a_data_set_with_both(tmp_path):
    truths, found = random_data(2, ties=False)
    other = worse(found, 0.5)
    together = contributions(truths, found).pool(contributions(truths, other))
    sides = np.random.default_rng(0).integers(0, 2, len(truths))
    weights = np.concatenate([1 - sides, sides]).astype(float)
    mixed = [two if side else one for one, two, side in zip(found, other, sides, strict=True)]
    expected = coco_stats(truths, mixed, tmp_path)[0]
    assert together(weights[None])[0] == pytest.approx(expected, abs=1e-12)
