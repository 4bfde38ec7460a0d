"""Answers to questions: the normalisation of VQAv2, VQA accuracy, exact match, and their contributions by image."""

from itertools import combinations

import numpy as np
import pytest

from visionbench.core import Predictions, Samples
from visionbench.metrics.question_answering import QuestionAnswering
from visionbench.metrics.question_answering.vqa import ANSWERS, normalise, vqa_accuracy
from visionbench.registry import find

NAME = "question_answering_{}_fraction"


# ------------------------------------------------------------------------------------- rules of visualqa.org/evaluation
@pytest.mark.parametrize(
    ("answer", "normalised"),
    [
        # lower case
        ("YES", "yes"),
        ("New York", "new york"),
        # a point is removed, except in a decimal number
        ("yes.", "yes"),
        ("St. Louis.", "st louis"),
        ("2.5", "2.5"),
        (".5", ".5"),
        ("3.", "3"),
        # number words become digits
        ("two", "2"),
        ("Ten", "10"),
        ("none", "0"),
        ("zero dogs", "0 dogs"),
        ("eleven", "eleven"),
        # articles are removed
        ("a dog", "dog"),
        ("an umbrella on the beach", "umbrella on beach"),
        ("The", ""),
        # an apostrophe is added to a contraction that lacks one
        ("dont", "don't"),
        ("isnt", "isn't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("youre", "you're"),
        ("oclock", "o'clock"),
        ("twas", "'twas"),
        # words that are also contractions without an apostrophe stay
        ("its", "its"),
        ("were", "were"),
        ("well", "well"),
        # apostrophes of possessives and colons of times stay
        ("girl's", "girl's"),
        ("2:50 pm", "2:50 pm"),
        # punctuation within a word becomes a space, punctuation beside a space is removed
        ("t-shirt", "t shirt"),
        ("black/white", "black white"),
        ("black - white", "black white"),
        ("yes!", "yes"),
        ("(red)", "red"),
        ("red, white", "red white"),
        # a comma between digits is removed without a space
        ("100,978", "100978"),
        ("1,000 people", "1000 people"),
        # line ends and tabs are spaces
        ("on\nthe\ttable", "on table"),
        ("  yes ", "yes"),
        ("", ""),
    ],
)
def test_an_answer_is_normalised_by_the_published_rules(answer, normalised):
    assert normalise(answer) == normalised


def test_normalising_twice_changes_nothing():
    for answer in ("A t-shirt", "100,978", "Dont!", "the 3.5", "girl's", "none"):
        assert normalise(normalise(answer)) == normalise(answer)


@pytest.mark.parametrize("matches", range(ANSWERS + 1))
def test_vqa_accuracy_is_the_mean_over_the_ten_subsets_of_nine_answers(matches):
    answers = ["red"] * matches + ["blue"] * (ANSWERS - matches)
    subsets = list(combinations(answers, ANSWERS - 1))
    assert len(subsets) == ANSWERS
    expected = sum(min(subset.count("red") / 3, 1.0) for subset in subsets) / len(subsets)
    assert vqa_accuracy("red", answers) == pytest.approx(expected)


@pytest.mark.parametrize(("matches", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vqa_accuracy_has_the_known_values(matches, accuracy):
    assert vqa_accuracy("red", ["red"] * matches + ["blue"] * (ANSWERS - matches)) == pytest.approx(accuracy)


# ---------------------------------------------------------------------------------------------------------- predictions
def predictions(*images):
    """Predictions from (answer, references) pairs, a list of them for each image."""
    columns = {
        "answers": [[answer for answer, _ in pairs] for pairs in images],
        "questions": [[{"question": "what?", "answers": list(texts)} for _, texts in pairs] for pairs in images],
    }
    return Predictions([f"{index}.jpg" for index in range(len(images))], columns)


def figures(*images):
    metric = QuestionAnswering()
    return metric.compute(metric.score(predictions(*images)))


TEN_RED = ("red",) * ANSWERS
THREE_RED = ("red",) * 3 + ("blue",) * 7


def test_it_is_registered():
    assert find("metrics", "question_answering") is QuestionAnswering


def test_figures_are_means_over_questions():
    metrics = figures([("Red.", TEN_RED), ("the red", THREE_RED)], [("green", TEN_RED)])
    assert metrics.values[NAME.format("vqa_accuracy")] == pytest.approx((1 + 0.9 + 0) / 3)
    assert metrics.values[NAME.format("exact_match")] == pytest.approx(2 / 3)
    assert metrics.values["question_answering_questions_count"] == 3
    assert metrics.values["question_answering_empty_count"] == 0


def test_an_answer_without_a_word_is_counted_and_wrong():
    metrics = figures([("", TEN_RED), ("!", TEN_RED)], [("red", TEN_RED)])
    assert metrics.values["question_answering_empty_count"] == 2
    assert metrics.values[NAME.format("exact_match")] == pytest.approx(1 / 3)


@pytest.mark.parametrize("count", [1, 3, 9, 11])
def test_without_ten_answers_vqa_accuracy_is_missing_with_the_reason(count):
    metrics = figures([("red", ("red",) * count), ("red", TEN_RED)])
    assert metrics.values[NAME.format("vqa_accuracy")] is None
    assert metrics.reasons[NAME.format("vqa_accuracy")] == (
        f"VQA accuracy needs 10 answers for each question, and a question has {count}"
    )
    assert metrics.values[NAME.format("exact_match")] == 1


def test_contributions_are_sums_over_the_questions_of_an_image():
    metric = QuestionAnswering()
    samples = metric.score(predictions([("red", TEN_RED), ("red", THREE_RED)], [], [("green", TEN_RED)]))
    vqa = metric.contributions(samples)[NAME.format("vqa_accuracy")]
    np.testing.assert_allclose(vqa.parts, [[1.9, 2], [0, 0], [0, 1]])
    exact = metric.contributions(samples)[NAME.format("exact_match")]
    np.testing.assert_allclose(exact.parts, [[2, 2], [0, 0], [0, 1]])
    assert exact.hits and not vqa.hits
    for contributions, name in ((vqa, "vqa_accuracy"), (exact, "exact_match")):
        figure = metric.compute(samples).values[NAME.format(name)]
        assert float(contributions.value(np.asarray(contributions.parts).sum(axis=0))) == pytest.approx(figure)


def test_both_figures_have_an_interval_over_images():
    rng = np.random.default_rng(0)
    images = [[("red" if rng.random() < 0.6 else "blue", TEN_RED)] * 2 for _ in range(40)]
    values = figures(*images).values
    for name in ("vqa_accuracy", "exact_match"):
        low, high = (values[f"question_answering_{name}_{end}_fraction"] for end in ("low", "high"))
        assert low < values[NAME.format(name)] < high


def test_equal_answers_of_which_some_are_wrong_are_flagged():
    metric = QuestionAnswering()
    flags = metric.score(predictions([("yes", ("yes",) * 10)], [("yes", ("no",) * 10)])).flags
    assert flags == {"answers_constant": "all 2 answers are 'yes'"}
    assert not metric.score(predictions([("yes", ("yes",) * 10)], [("yes", ("yes",) * 10)])).flags
    assert not metric.score(predictions([("yes", ("yes",) * 10)], [("no", ("yes",) * 10)])).flags


def test_another_number_of_answers_than_of_questions_is_an_error():
    broken = predictions([("red", TEN_RED)])
    broken.columns["answers"][0].append("blue")
    with pytest.raises(ValueError, match=r"0\.jpg has 2 answers to 1 questions"):
        QuestionAnswering().score(broken)


def test_without_samples_every_figure_has_the_reason():
    metrics = QuestionAnswering().compute(Samples())
    assert set(metrics.values.values()) == {None}
    assert metrics.values.keys() == metrics.reasons.keys()
