"""IoU, recall and average recall on random masks, compared with COCO's evaluation and with counts of pixels."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visionbench.core import Predictions, Samples
from visionbench.metrics.segmentation import Segmentation
from visionbench.registry import find

SIZE = (40, 56)


def blob(rng):
    """Return a mask with a filled ellipse."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    cy, cx, ry, rx = rng.uniform(12, 28), rng.uniform(16, 40), rng.uniform(4, 12), rng.uniform(4, 14)
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


def near(mask, rng):
    """Return the mask moved by up to three pixels, with a few random pixels flipped."""
    shift = rng.integers(0, 4)
    moved = np.roll(mask, rng.integers(-shift, shift + 1, 2), axis=(0, 1))
    return moved ^ (rng.random(SIZE) < 0.003 * shift)


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def random_masks(seed, images=12):
    """Return the true masks by image, and by prompt three predicted masks of each with their estimates."""
    rng = np.random.default_rng(seed)
    truths = [[blob(rng) for _ in range(rng.integers(0, 4))] for _ in range(images)]
    answers = {
        prompt: [[[near(m, rng) for _ in range(3)] for m in masks] for masks in truths] for prompt in ("point", "box")
    }
    estimates = {prompt: [rng.random((len(masks), 3)) for masks in truths] for prompt in answers}
    return truths, answers, estimates


def predictions(truths, answers, estimates, empty=0):
    columns = {
        "truth_masks": [[rle(mask) for mask in masks] for masks in truths],
        "mask_size": [list(SIZE)] * len(truths),
        "empty_masks": [empty] + [0] * (len(truths) - 1),
    }
    for prompt, by_instance in answers.items():
        columns[f"{prompt}_masks"] = [[[rle(mask) for mask in three] for three in masks] for masks in by_instance]
        columns[f"{prompt}_estimates"] = estimates[prompt]
    return Predictions([f"image {index}" for index in range(len(truths))], columns)


def pixel_iou(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("seed", range(3))
def test_ious_of_the_mask_ranked_first_and_of_the_best_mask_equal_those_of_the_pixels(seed):
    truths, answers, estimates = random_masks(seed)
    series = Segmentation().score(predictions(truths, answers, estimates)).series
    for prompt in ("point", "box"):
        ious = [
            [pixel_iou(answer, truth) for answer in three]
            for truth_masks, answer_masks in zip(truths, answers[prompt], strict=True)
            for truth, three in zip(truth_masks, answer_masks, strict=True)
        ]
        instance_estimates = np.concatenate(estimates[prompt])
        chosen = [masks[int(estimate.argmax())] for masks, estimate in zip(ious, instance_estimates, strict=True)]
        np.testing.assert_allclose(series[f"segmentation/{prompt}_iou"], chosen, rtol=1e-12)
        np.testing.assert_allclose(series[f"segmentation/{prompt}_best_of_three_iou"], np.max(ious, axis=1), rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("prompt", ["point", "box"])
@pytest.mark.parametrize("best", [False, True])
def test_miou_and_recalls_agree_with_cocos_evaluation(seed, prompt, best):
    """Each instance has a separate category, so that COCO's matching has no choice."""
    truths, answers, estimates = random_masks(seed)
    chosen = [
        max(three, key=lambda mask: pixel_iou(mask, truth)) if best else three[int(estimate.argmax())]
        for truth_masks, answer_masks, image_estimates in zip(truths, answers[prompt], estimates[prompt], strict=True)
        for truth, three, estimate in zip(truth_masks, answer_masks, image_estimates, strict=True)
    ]
    all_truths = [mask for masks in truths for mask in masks]
    ious, recalls = coco_evaluation(all_truths, chosen)
    assert len(set(recalls)) > 3
    assert recalls[-1] > 0
    values = Segmentation().compute(Segmentation().score(predictions(truths, answers, estimates))).values
    name = f"segmentation_{prompt}_{'best_of_three_' if best else ''}"
    assert values[f"{name}miou_fraction"] == pytest.approx(np.mean(ious))
    assert values[f"{name}average_recall_fraction"] == pytest.approx(recalls.mean())
    assert values[f"{name}recall_at_iou_50_fraction"] == pytest.approx(recalls[0])
    assert values[f"{name}recall_at_iou_75_fraction"] == pytest.approx(recalls[5])


def coco_evaluation(truths, answers):
    """Return the IoU of each instance and the recall at the ten thresholds, from pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": 1, "height": SIZE[0], "width": SIZE[1]}],
            "categories": [{"id": index} for index in range(1, len(truths) + 1)],
            "annotations": [
                {
                    "id": index,
                    "image_id": 1,
                    "category_id": index,
                    "iscrowd": 0,
                    "area": int(mask.sum()),
                    "bbox": [0, 0, 1, 1],
                    "segmentation": {"size": list(SIZE), "counts": rle(mask)},
                }
                for index, mask in enumerate(truths, start=1)
            ],
        }
        coco.createIndex()
        results = coco.loadRes(
            [
                {
                    "image_id": 1,
                    "category_id": index,
                    "score": 1.0,
                    "segmentation": {"size": list(SIZE), "counts": rle(mask)},
                }
                for index, mask in enumerate(answers, start=1)
            ]
        )
        evaluation = COCOeval(coco, results, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    ious = [float(evaluation.ious[1, index][0, 0]) for index in range(1, len(truths) + 1)]
    return ious, evaluation.eval["recall"][:, :, 0, -1].mean(axis=1)


def test_the_registry_finds_the_metric_by_name():
    assert find("metrics", "segmentation") is Segmentation


def test_mean_iou_is_over_instances_not_over_images():
    full, half = np.ones(SIZE, bool), np.ones(SIZE, bool)
    half[: SIZE[0] // 2] = False
    truths = [[full, full, full], [full]]
    answers = {prompt: [[[full] * 3] * 3, [[half] * 3]] for prompt in ("point", "box")}
    estimates = {prompt: [np.ones((3, 3)), np.ones((1, 3))] for prompt in answers}
    values = Segmentation().compute(Segmentation().score(predictions(truths, answers, estimates))).values
    assert values["segmentation_box_miou_fraction"] == pytest.approx((3 + 0.5) / 4)
    assert values["segmentation_box_recall_at_iou_50_fraction"] == 1
    assert values["segmentation_box_recall_at_iou_75_fraction"] == 0.75
    assert values["segmentation_instances_count"] == 4


def test_an_empty_mask_has_an_iou_of_zero():
    truths, answers, estimates = random_masks(0)
    empty_answers = {
        prompt: [[[np.zeros(SIZE, bool)] * 3 for _ in instances] for instances in by_instance]
        for prompt, by_instance in answers.items()
    }
    values = Segmentation().compute(Segmentation().score(predictions(truths, empty_answers, estimates))).values
    assert values["segmentation_point_miou_fraction"] == 0
    assert values["segmentation_point_best_of_three_miou_fraction"] == 0


def test_instances_without_a_pixel_raise_a_flag():
    samples = Segmentation().score(predictions(*random_masks(0), empty=2))
    count = len(samples.series["segmentation/point_iou"])
    assert samples.flags == {"empty_masks": f"2 of {count + 2} instances have no pixel and get no prompt"}
    assert not Segmentation().score(predictions(*random_masks(0))).flags


def test_the_error_for_estimates_that_are_not_finite_has_the_id_of_the_image():
    truths, answers, estimates = random_masks(0)
    index = next(index for index, masks in enumerate(truths) if masks)
    estimates["box"][index][0, 1] = np.nan
    with pytest.raises(ValueError, match=f"image {index} has an estimate that is not finite"):
        Segmentation().score(predictions(truths, answers, estimates))


def test_without_instances_values_are_none_with_the_reason():
    none = {prompt: [[], []] for prompt in ("point", "box")}
    samples = Segmentation().score(predictions([[], []], none, {prompt: [np.empty((0, 3))] * 2 for prompt in none}))
    metrics = Segmentation().compute(samples)
    assert metrics.values["segmentation_point_miou_fraction"] is None
    assert metrics.reasons["segmentation_point_miou_fraction"] == "no instance had a prompt"
    assert metrics.values["segmentation_instances_count"] == 0


def test_metrics_can_be_recomputed_from_the_series_alone():
    samples = Segmentation().score(predictions(*random_masks(1)))
    assert Segmentation().compute(Samples(samples.series)) == Segmentation().compute(samples)
