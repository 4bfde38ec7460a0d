"""Answers in words are matched with one class: by its complete name, or by its number in the prompt."""

import pytest

from visionbench.examples.class_answers import find_class, list_classes

CLASSES = ["red circle", "blue_square", "7", "T-shirt"]


def test_the_prompt_lists_each_class_with_its_number():
    assert list_classes(CLASSES).splitlines() == ["1. red circle", "2. blue_square", "3. 7", "4. T-shirt"]


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("red circle", 0),
        ("Red Circle.", 0),
        ('**"red circle"**\n', 0),
        ("blue square", 1),
        ("Answer: blue-square", 1),
        ("The class is t shirt!", 3),
        ("1", 0),
        ("2.", 1),
        ("(4)", 3),
        ("1. red circle", 0),
        ("2: blue square", 1),
        ("7", 2),  # the name of a class has precedence over a number
        ("3. 7", 2),
        ("5", None),
        ("0", None),
        ("1. blue square", None),
        ("red", None),
        ("a red circle", None),
        ("red circle or blue square", None),
        ("", None),
        ("I cannot tell.", None),
        ("-1", None),
        ("1.5", None),
    ],
)
def test_an_answer_is_the_class_that_it_names_completely(answer, index):
    assert find_class(answer, CLASSES) == index
