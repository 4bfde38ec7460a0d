"""What of a data set cannot be used is found before measuring, named, counted, and refused or left out."""

import numpy as np
import pytest
from PIL import Image

from visionbench import intake
from visionbench.core import Example
from visionbench.registry import ConfigError


@pytest.fixture
def examples(tmp_path):
    """Six noisy JPEG pictures."""
    found = []
    for k in range(6):
        path = tmp_path / f"{k}.jpg"
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
        found.append(Example(str(k), path))
    return found


def truncate(example):
    example.image.write_bytes(example.image.read_bytes()[:-2000])


def test_whole_pictures_have_no_fault(examples):
    assert intake.faults(examples, decoded=6) == {}


def test_missing_empty_unreadable_and_misannotated_pictures_are_named_with_their_fault(examples):
    examples[0].image.unlink()
    examples[1].image.write_bytes(b"")
    examples[2].image.write_text("not a picture")
    examples[4] = Example("4", examples[4].image, faults=("an empty caption", "no caption 3"))
    found = intake.faults(examples, decoded=0)
    assert list(found) == ["0", "1", "2", "4"]
    assert (found["0"], found["1"], found["4"]) == ("missing", "zero bytes", "an empty caption; no caption 3")
    assert "cannot be decoded" in found["2"]


def test_two_pictures_of_one_name_cannot_be_told_apart(examples):
    twins = [*examples, Example("3", examples[0].image)]
    assert intake.faults(twins, decoded=0) == {"3": "2 pictures have this name"}


def test_only_the_first_are_decoded(examples):
    truncate(examples[1])
    truncate(examples[4])
    assert list(intake.faults(examples, decoded=2)) == ["1"]
    assert list(intake.faults(examples, decoded=6)) == ["1", "4"]


def test_one_that_cannot_be_used_does_not_count_among_the_first(examples):
    examples[0].image.unlink()
    truncate(examples[2])
    assert list(intake.faults(examples, decoded=2)) == ["0", "2"]


def test_faults_are_refused_in_one_line_that_names_the_first_and_the_way_out():
    found = {str(k): "missing" for k in range(5)}
    with pytest.raises(ConfigError) as error:
        intake.refuse("coco", found, 100, "fail")
    assert str(error.value) == (
        "data=coco: 5 of 100 pictures cannot be used: 0 (missing), 1 (missing), 2 (missing), and 2 more; mend them, or "
        "leave them out with data.on_error=skip"
    )


def test_faults_are_let_pass_where_they_are_to_be_left_out_unless_nothing_remains(examples):
    intake.refuse("coco", {"0": "missing"}, 6, "skip")
    intake.refuse("coco", {}, 6, "fail")
    with pytest.raises(ConfigError, match=r"none of its 6 pictures can be used: 0 \(missing\)"):
        intake.refuse("coco", {str(k): "missing" for k in range(6)}, 6, "skip")


def test_what_is_left_out_is_not_used(examples):
    assert [example.id for example in intake.usable(examples, {"1": "missing", "5": "zero bytes"})] == list("0234")
