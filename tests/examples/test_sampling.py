"""A sample of a data set: even over classes, deterministic, and the examples without sampling."""

from collections import Counter
from pathlib import Path

import pytest

from visionbench.core import Example
from visionbench.data.image_folder import ImageFolder
from visionbench.data.shapes import Shapes
from visionbench.examples.sampling import list_all_examples, sample_evenly


def examples(**counts):
    return [
        Example(f"{label}/{index}", Path("x"), label=label) for label, count in counts.items() for index in range(count)
    ]


@pytest.mark.parametrize("count", [6, 7, 8, 20])
def test_the_numbers_of_images_per_class_differ_by_at_most_one(count):
    sample = sample_evenly(examples(a=8, b=8, c=8), count)
    counts = Counter(example.label for example in sample)
    assert len(sample) == count and set(counts) == {"a", "b", "c"}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_small_class_gives_all_its_images_and_the_others_more():
    assert Counter(example.label for example in sample_evenly(examples(a=1, b=9, c=9), 9)) == {"a": 1, "b": 4, "c": 4}


def test_images_are_taken_at_equal_distances_and_keep_their_order():
    assert [example.id for example in sample_evenly(examples(a=9, b=4), 5)] == ["a/0", "a/3", "a/6", "b/0", "b/2"]


def test_fewer_images_than_classes_are_taken_from_classes_at_equal_distances():
    assert [example.id for example in sample_evenly(examples(a=2, b=2, c=2, d=2), 2)] == ["a/0", "c/0"]


def test_without_labels_the_first_images_are_taken():
    examples = [Example(str(index), Path("x")) for index in range(5)]
    assert sample_evenly(examples, 2) == examples[:2]


@pytest.mark.parametrize("count", [None, 4, 99])
def test_all_images_are_taken_if_there_are_not_more(count):
    assert sample_evenly(examples(a=2, b=2), count) == examples(a=2, b=2)


def test_all_examples_of_a_folder_are_those_without_the_option_samples(tmp_path):
    for index in range(5):
        (tmp_path / f"{index}.jpg").touch()
    data = ImageFolder(str(tmp_path), samples=2)
    assert (len(data.examples()), len(list_all_examples(data))) == (2, 5)


def test_all_examples_of_rendered_data_are_those_that_samples_renders(tmp_path):
    assert len(list_all_examples(Shapes(samples=3, cache_dir=str(tmp_path)))) == 3
