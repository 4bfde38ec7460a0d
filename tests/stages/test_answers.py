"""Flags and faults over all predictions of a model."""

import numpy as np
import pytest

from visionbench.core import INVALID, WARNED, Predictions
from visionbench.models.promptable_segmenter import encode_masks
from visionbench.stages.answers import judge
from visionbench.validity import judge as verdict


def predictions(**columns):
    return Predictions(["a", "b", "c"], columns)


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"caption": ["", " ", ""]}, "answers_empty: the captions of all 3 images are empty (caption)"),
        ({"caption": ["a dog"] * 3}, "answers_equal: the model's caption is the same for all 3 images"),
        ({"image_embedding": [np.ones(4)] * 3}, "answers_equal: the model's image_embedding is the same"),
        ({"class_scores": [np.array([1.0, 2.0])] * 3}, "answers_equal: the model's class_scores is the same"),
        ({"caption_embeddings": [np.ones((2, 4)), np.ones((1, 4)), np.ones((1, 4))]}, "answers_equal: the model's"),
        (
            {
                "point_masks": [[encode_masks(np.zeros((3, 4, 5), bool))]] * 3,
                "point_estimates": [np.ones((1, 3))] * 3,
                "empty_masks": [0, 1, 0],
                "mask_size": [[4, 5]] * 3,
            },
            "answers_empty: the masks of all 3 images are empty (point_masks)",
        ),
    ],
)
def test_predictions_that_are_all_empty_or_all_equal_are_invalid(columns, fault):
    judged = verdict(judge(predictions(**columns)))
    assert judged.verdict == INVALID
    assert str(judged.reasons[0]).startswith(fault)


def test_predictions_that_differ_have_no_flag_and_no_fault():
    some = np.zeros((3, 4, 5), bool)
    some[1, 2, 2] = True
    samples = judge(
        predictions(
            caption=["", "a dog", "a dog"],
            image_embedding=[np.ones(4), np.ones(4), np.zeros(4)],
            class_scores=[np.arange(2.0), np.arange(2.0), np.ones(2)],
            point_masks=[[], [encode_masks(some)], []],
            point_estimates=[np.ones((0, 3)), np.ones((1, 3)), np.ones((0, 3))],
            truth_masks=[[], encode_masks(some[:1]), []],
            empty_masks=[1, 0, 2],
            mask_size=[[4, 5]] * 3,
        )
    )
    assert (samples.flags, samples.faults) == ({}, {})


def test_the_prediction_of_a_single_image_is_not_equal_to_others():
    assert not judge(Predictions(["a"], {"caption": ["a dog"]})).faults


def test_captions_that_were_cut_are_counted_and_flagged():
    embeddings = [np.eye(4)[:2], np.eye(4)[2:3], np.eye(4)[3:]]
    samples = judge(predictions(captions_cut=[2, 0, 1], caption_embeddings=embeddings))
    assert samples.flags == {"captions_cut": "3 of 4 captions have more tokens than model.options.text_tokens"}
    assert verdict(samples).verdict == WARNED
