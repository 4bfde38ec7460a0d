"""IoU, recall and average recall against COCO's own evaluation and pixel counts, on masks drawn at random."""

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
    """A filled ellipse."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    cy, cx, ry, rx = rng.uniform(12, 28), rng.uniform(16, 40), rng.uniform(4, 12), rng.uniform(4, 14)
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


def near(mask, rng):
    """The mask moved by some pixels or none, with some flipped anywhere or none."""
    most = rng.integers(0, 4)
    moved = np.roll(mask, rng.integers(-most, most + 1, 2), axis=(0, 1))
    return moved ^ (rng.random(SIZE) < 0.003 * most)


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def drawn(seed, pictures=12):
    """True masks, three answers each by both prompts, and estimates: nested lists by picture, and as predictions."""
    rng = np.random.default_rng(seed)
    truths = [[blob(rng) for _ in range(rng.integers(0, 4))] for _ in range(pictures)]
    answers = {
        prompt: [[[near(m, rng) for _ in range(3)] for m in of_one] for of_one in truths] for prompt in ("point", "box")
    }
    estimates = {prompt: [rng.random((len(of_one), 3)) for of_one in truths] for prompt in answers}
    return truths, answers, estimates


def predictions(truths, answers, estimates, empty=0):
    columns = {
        "truth_masks": [[rle(mask) for mask in of_one] for of_one in truths],
        "mask_size": [list(SIZE)] * len(truths),
        "empty_masks": [empty] + [0] * (len(truths) - 1),
    }
    for prompt, given in answers.items():
        columns[f"{prompt}_masks"] = [[[rle(mask) for mask in three] for three in of_one] for of_one in given]
        columns[f"{prompt}_estimates"] = estimates[prompt]
    return Predictions([f"picture {at}" for at in range(len(truths))], columns)


def pixel_iou(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("seed", range(3))
def test_ious_are_those_of_the_pixels_for_the_estimated_mask_and_for_the_best(seed):
    truths, answers, estimates = drawn(seed)
    series = Segmentation().score(predictions(truths, answers, estimates)).series
    for prompt in ("point", "box"):
        ious = [
            [pixel_iou(answer, truth) for answer in three]
            for of_truth, of_answer in zip(truths, answers[prompt], strict=True)
            for truth, three in zip(of_truth, of_answer, strict=True)
        ]
        guesses = np.concatenate(estimates[prompt])
        picked = [of_one[int(guess.argmax())] for of_one, guess in zip(ious, guesses, strict=True)]
        np.testing.assert_allclose(series[f"segmentation/{prompt}_iou"], picked, rtol=1e-12)
        np.testing.assert_allclose(series[f"segmentation/{prompt}_best_of_three_iou"], np.max(ious, axis=1), rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("prompt", ["point", "box"])
@pytest.mark.parametrize("best", [False, True])
def test_miou_and_recalls_are_those_of_cocos_evaluation(seed, prompt, best):
    """Each instance in a category of its own, so that COCO's matching has no choice."""
    truths, answers, estimates = drawn(seed)
    picked = [
        max(three, key=lambda mask: pixel_iou(mask, truth)) if best else three[int(guess.argmax())]
        for of_truth, of_answer, of_guess in zip(truths, answers[prompt], estimates[prompt], strict=True)
        for truth, three, guess in zip(of_truth, of_answer, of_guess, strict=True)
    ]
    everything = [mask for of_one in truths for mask in of_one]
    ious, recalls = coco_evaluation(everything, picked)
    assert len(set(recalls)) > 3
    assert recalls[-1] > 0
    values = Segmentation().compute(Segmentation().score(predictions(truths, answers, estimates))).values
    name = f"segmentation_{prompt}_{'best_of_three_' if best else ''}"
    assert values[f"{name}miou_fraction"] == pytest.approx(np.mean(ious))
    assert values[f"{name}average_recall_fraction"] == pytest.approx(recalls.mean())
    assert values[f"{name}recall_at_iou_50_fraction"] == pytest.approx(recalls[0])
    assert values[f"{name}recall_at_iou_75_fraction"] == pytest.approx(recalls[5])


def coco_evaluation(truths, answers):
    """IoU of each instance, and recall at the ten thresholds, by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": 1, "height": SIZE[0], "width": SIZE[1]}],
            "categories": [{"id": at} for at in range(1, len(truths) + 1)],
            "annotations": [
                {
                    "id": at,
                    "image_id": 1,
                    "category_id": at,
                    "iscrowd": 0,
                    "area": int(mask.sum()),
                    "bbox": [0, 0, 1, 1],
                    "segmentation": {"size": list(SIZE), "counts": rle(mask)},
                }
                for at, mask in enumerate(truths, start=1)
            ],
        }
        coco.createIndex()
        found = coco.loadRes(
            [
                {
                    "image_id": 1,
                    "category_id": at,
                    "score": 1.0,
                    "segmentation": {"size": list(SIZE), "counts": rle(mask)},
                }
                for at, mask in enumerate(answers, start=1)
            ]
        )
        evaluation = COCOeval(coco, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    ious = [float(evaluation.ious[1, at][0, 0]) for at in range(1, len(truths) + 1)]
    return ious, evaluation.eval["recall"][:, :, 0, -1].mean(axis=1)


def test_it_is_found_by_name():
    assert find("metrics", "segmentation") is Segmentation


def test_mean_iou_is_over_instances_not_over_pictures():
    whole, half = np.ones(SIZE, bool), np.ones(SIZE, bool)
    half[: SIZE[0] // 2] = False
    truths = [[whole, whole, whole], [whole]]
    answers = {prompt: [[[whole] * 3] * 3, [[half] * 3]] for prompt in ("point", "box")}
    estimates = {prompt: [np.ones((3, 3)), np.ones((1, 3))] for prompt in answers}
    values = Segmentation().compute(Segmentation().score(predictions(truths, answers, estimates))).values
    assert values["segmentation_box_miou_fraction"] == pytest.approx((3 + 0.5) / 4)
    assert values["segmentation_box_recall_at_iou_50_fraction"] == 1
    assert values["segmentation_box_recall_at_iou_75_fraction"] == 0.75
    assert values["segmentation_instances_count"] == 4


def test_an_empty_answer_covers_nothing():
    truths, answers, estimates = drawn(0)
    nothing = {p: [[[np.zeros(SIZE, bool)] * 3 for _ in one] for one in given] for p, given in answers.items()}
    values = Segmentation().compute(Segmentation().score(predictions(truths, nothing, estimates))).values
    assert values["segmentation_point_miou_fraction"] == 0
    assert values["segmentation_point_best_of_three_miou_fraction"] == 0


def test_instances_without_a_pixel_raise_a_doubt():
    samples = Segmentation().score(predictions(*drawn(0), empty=2))
    count = len(samples.series["segmentation/point_iou"])
    assert samples.flags == {"empty_masks": f"2 of {count + 2} instances have no pixel and get no prompt"}
    assert not Segmentation().score(predictions(*drawn(0))).flags


def test_estimates_that_are_not_finite_are_refused_by_the_pictures_name():
    truths, answers, estimates = drawn(0)
    at = next(at for at, of_one in enumerate(truths) if of_one)
    estimates["box"][at][0, 1] = np.nan
    with pytest.raises(ValueError, match=f"picture {at} has an estimate that is not finite"):
        Segmentation().score(predictions(truths, answers, estimates))


def test_without_any_instance_there_is_no_number():
    none = {prompt: [[], []] for prompt in ("point", "box")}
    samples = Segmentation().score(predictions([[], []], none, {prompt: [np.empty((0, 3))] * 2 for prompt in none}))
    metrics = Segmentation().compute(samples)
    assert metrics.values["segmentation_point_miou_fraction"] is None
    assert metrics.reasons["segmentation_point_miou_fraction"] == "no instance had a prompt"
    assert metrics.values["segmentation_instances_count"] == 0


def test_numbers_can_be_computed_again_from_series_alone():
    samples = Segmentation().score(predictions(*drawn(1)))
    assert Segmentation().compute(Samples(samples.series)) == Segmentation().compute(samples)
