"""A part of a data set: even over classes, the same each time, and how many there are without it."""

from collections import Counter
from pathlib import Path

import pytest

from visionbench.core import Example
from visionbench.data.image_folder import ImageFolder
from visionbench.data.shapes import Shapes
from visionbench.examples.sampling import spread, whole


def examples(**counts):
    return [Example(f"{label}/{at}", Path("x"), label=label) for label, count in counts.items() for at in range(count)]


@pytest.mark.parametrize("count", [6, 7, 8, 20])
def test_every_class_has_as_many_pictures_give_or_take_one(count):
    found = spread(examples(a=8, b=8, c=8), count)
    counts = Counter(example.label for example in found)
    assert len(found) == count and set(counts) == {"a", "b", "c"}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_class_of_few_gives_all_and_the_others_more():
    assert Counter(example.label for example in spread(examples(a=1, b=9, c=9), 9)) == {"a": 1, "b": 4, "c": 4}


def test_pictures_are_taken_at_equal_distances_and_stay_in_their_order():
    assert [example.id for example in spread(examples(a=9, b=4), 5)] == ["a/0", "a/3", "a/6", "b/0", "b/2"]


def test_fewer_than_classes_are_taken_from_classes_at_equal_distances():
    assert [example.id for example in spread(examples(a=2, b=2, c=2, d=2), 2)] == ["a/0", "c/0"]


def test_without_labels_the_first_are_taken():
    some = [Example(str(at), Path("x")) for at in range(5)]
    assert spread(some, 2) == some[:2]


@pytest.mark.parametrize("count", [None, 4, 99])
def test_all_are_taken_where_there_are_no_more(count):
    assert spread(examples(a=2, b=2), count) == examples(a=2, b=2)


def test_the_whole_of_a_folder_is_what_it_holds_without_samples(tmp_path):
    for at in range(5):
        (tmp_path / f"{at}.jpg").touch()
    data = ImageFolder(str(tmp_path), samples=2)
    assert (len(data.examples()), len(whole(data))) == (2, 5)


def test_where_samples_make_the_data_they_are_the_whole(tmp_path):
    assert len(whole(Shapes(samples=3, cache_dir=str(tmp_path)))) == 3
