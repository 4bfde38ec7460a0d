"""Used ÷ found: what is counted for which metric, and when a row is flagged."""

from pathlib import Path

import numpy as np
import pytest

from visionbench.core import Example, Samples
from visionbench.data.shapes import Shapes
from visionbench.examples import denominators
from visionbench.examples.denominators import compute, counted, of_classes

FOUND = [Example(str(at), Path("x"), captions=("a", "b"), label="ab"[at % 2], instances=3) for at in range(4)]


def values(samples):
    return compute(samples).values


def test_pictures_alone_are_counted_where_nothing_else_is_read():
    samples = counted(FOUND, 4, {"0", "1", "2", "3"}, {"labels"}, Samples())
    assert values(samples) == {"pictures_used_count": 4, "pictures_found_count": 4}
    assert not samples.flags


@pytest.mark.parametrize(("caption", "flagged"), [("...", True), ("🟥", True), ("½ ring", False), ("一个圆", False)])
def test_captions_without_a_letter_or_digit_are_counted_in_a_flag(caption, flagged):
    found = [*FOUND, Example("4", Path("x"), captions=("a", caption))]
    flags = counted(found, 5, set("01234"), {"captions"}, Samples()).flags
    assert flags == (
        {"captions_without_words": "1 of 10 captions have no letter and no digit; correct them in the file"}
        if flagged
        else {}
    )
    assert not counted(found, 5, set("01234"), set(), Samples()).flags


def test_captions_and_instances_of_pictures_left_out_are_flagged_with_their_counts():
    samples = counted(FOUND, 4, {"0", "3"}, {"captions", "masks"}, Samples())
    assert values(samples) == {
        **{"pictures_used_count": 2, "pictures_found_count": 4},
        **{"captions_used_count": 4, "captions_found_count": 8},
        **{"instances_used_count": 6, "instances_found_count": 12},
    }
    assert samples.flags == {"captions_used": "4 of 8 captions", "instances_used": "6 of 12 instances"}


def test_instances_that_were_not_asked_for_are_not_used():
    asked = Samples({denominators.ASKED: np.array([10.0])})
    samples = counted(FOUND, 4, {"0", "1", "2", "3"}, {"masks"}, asked)
    assert values(samples)["instances_used_count"] == 10
    assert samples.flags == {"instances_used": "10 of 12 instances"}


def test_a_sample_is_flagged_as_one():
    samples = counted(FOUND, 2, {"0", "1"}, set(), Samples())
    assert samples.flags == {"sample": "2 of 4 pictures were taken (data.options.samples)"}


def test_a_data_set_that_counts_no_instances_has_a_reason_instead():
    silent = [Example("0", Path("x"))]
    found = compute(counted(silent, 1, {"0"}, {"masks"}, Samples({denominators.ASKED: np.array([2.0])})))
    assert found.values["instances_found_count"] is None
    assert found.reasons == {"instances_found_count": denominators.NO_COUNT}


def test_classes_without_a_picture_are_counted_and_named():
    samples = of_classes(["a", "b", "c", "d"], FOUND)
    assert values(samples) == {"classes_count": 4, "classes_without_pictures_count": 2}
    assert samples.flags == {"classes_without_pictures": "2 of 4 classes have no picture that was used: c, d"}
    assert not of_classes(["a", "b"], FOUND).flags


@pytest.mark.parametrize("size", [32, 64])
def test_shapes_say_how_many_instances_they_have(tmp_path, size):
    for example in Shapes(samples=5, size=size, cache_dir=str(tmp_path)).examples():
        assert example.masks is not None and len(example.masks()) == example.instances
