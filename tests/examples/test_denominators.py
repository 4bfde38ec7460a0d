"""The numbers of used and found items that are recorded for each metric, and their flags."""

from pathlib import Path

import numpy as np
import pytest

from visionbench.core import Example, Samples
from visionbench.data.shapes import Shapes
from visionbench.examples import denominators
from visionbench.examples.denominators import compute_metrics, count_classes, count_used

EXAMPLES = [
    Example(str(index), Path("x"), captions=("a", "b"), label="ab"[index % 2], instances=3) for index in range(4)
]


def values(samples):
    return compute_metrics(samples).values


def test_only_images_are_counted_if_no_metric_needs_captions_or_masks():
    samples = count_used(EXAMPLES, 4, {"0", "1", "2", "3"}, {"labels"}, Samples())
    assert values(samples) == {"pictures_used_count": 4, "pictures_found_count": 4}
    assert not samples.flags


@pytest.mark.parametrize(("caption", "flagged"), [("...", True), ("🟥", True), ("½ ring", False), ("一个圆", False)])
def test_captions_without_a_letter_or_digit_are_flagged_with_their_number(caption, flagged):
    examples = [*EXAMPLES, Example("4", Path("x"), captions=("a", caption))]
    flags = count_used(examples, 5, set("01234"), {"captions"}, Samples()).flags
    assert flags == (
        {"captions_without_words": "1 of 10 captions contain no letter and no digit; correct them in the file"}
        if flagged
        else {}
    )
    assert not count_used(examples, 5, set("01234"), set(), Samples()).flags


def test_captions_and_instances_of_unused_images_are_flagged_with_their_counts():
    samples = count_used(EXAMPLES, 4, {"0", "3"}, {"captions", "masks"}, Samples())
    assert values(samples) == {
        **{"pictures_used_count": 2, "pictures_found_count": 4},
        **{"captions_used_count": 4, "captions_found_count": 8},
        **{"instances_used_count": 6, "instances_found_count": 12},
    }
    assert samples.flags == {"captions_used": "4 of 8 captions", "instances_used": "6 of 12 instances"}


def test_instances_without_a_prompt_do_not_count_as_used():
    prompted = Samples({denominators.PROMPTED: np.array([10.0])})
    samples = count_used(EXAMPLES, 4, {"0", "1", "2", "3"}, {"masks"}, prompted)
    assert values(samples)["instances_used_count"] == 10
    assert samples.flags == {"instances_used": "10 of 12 instances"}


def test_a_sample_is_flagged():
    samples = count_used(EXAMPLES, 2, {"0", "1"}, set(), Samples())
    assert samples.flags == {"sample": "2 of 4 images were taken (data.options.samples)"}


def test_a_data_set_without_a_count_of_instances_has_a_reason_instead():
    uncounted = [Example("0", Path("x"))]
    metrics = compute_metrics(
        count_used(uncounted, 1, {"0"}, {"masks"}, Samples({denominators.PROMPTED: np.array([2.0])}))
    )
    assert metrics.values["instances_found_count"] is None
    assert metrics.reasons == {"instances_found_count": denominators.NO_COUNT}


def test_classes_without_an_image_are_counted_and_named():
    samples = count_classes(["a", "b", "c", "d"], EXAMPLES)
    assert values(samples) == {"classes_count": 4, "classes_without_pictures_count": 2}
    assert samples.flags == {"classes_without_pictures": "2 of 4 classes have no image that was used: c, d"}
    assert not count_classes(["a", "b"], EXAMPLES).flags


@pytest.mark.parametrize("size", [32, 64])
def test_shapes_give_the_number_of_their_instances(tmp_path, size):
    for example in Shapes(samples=5, size=size, cache_dir=str(tmp_path)).examples():
        assert example.masks is not None and len(example.masks()) == example.instances
