"""Caption scores against the reference implementation that COCO's evaluation ships, and against texts by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from torchmetrics.functional.text import bleu_score

from visionbench.core import ConfigError, Predictions, Samples
from visionbench.metrics.captioning import Captioning, closest, tokens
from visionbench.registry import find

TEXTS = {
    "a man rides a brown horse on the beach": [
        "a man riding a horse on a beach",
        "a person on horseback by the sea",
        "man rides brown horse along the beach",
    ],
    "two cats are sleeping on a red sofa": ["two cats sleep on the couch", "a pair of cats asleep on a red sofa"],
    "the the the the the the dog": ["the dog runs", "a dog in the park is running to the man"],
    "pizza": ["a pizza with cheese", "pizza on a table"],
    "a train a train at a station at a station": ["a train at a station", "the train stands in a station"],
    "a bus on a street with people": ["a bus on a street with people", "a city bus in traffic"],
    "": ["a dog on a bed", "a brown dog"],
    "a plate of food": ["a very long description of a plate with a lot of food on it that nobody would ever finish"],
}
ANSWERS = json.loads((Path(__file__).parent / "ptb_answers.json").read_text("utf-8"))
WORDS = ["a", "man", "dog", "red", "runs", "the", "on", "street", "big", "small", "with", "and", "sits", "near", "two"]


class QuietBleu(Bleu):
    """Without a line on the screen for every corpus."""

    def compute_score(self, truth, said):
        return super().compute_score(truth, said, verbose=0)


def pairs_of(texts):
    return list(texts.items()) if isinstance(texts, dict) else texts


def predictions(texts):
    pairs = pairs_of(texts)
    columns = {"caption": [caption for caption, _ in pairs], "references": [of_one for _, of_one in pairs]}
    return Predictions([str(at) for at in range(len(pairs))], columns)


def computed(texts):
    return Captioning().compute(Captioning().score(predictions(texts))).values


def drawn(seed, pictures=60):
    """Captions and one to six references of one to thirteen words, each the caption with some words changed."""
    rng = np.random.default_rng(seed)

    def changed(words):
        kept = [word if rng.random() < 0.7 else str(rng.choice(WORDS)) for word in words]
        return " ".join(kept[: rng.integers(1, 14)])

    captions = [[str(word) for word in rng.choice(WORDS, rng.integers(1, 14))] for _ in range(pictures)]
    return [(" ".join(words), [changed(words) for _ in range(rng.integers(1, 7))]) for words in captions]


def reference(texts, scorer):
    pairs = pairs_of(texts)
    truth = {at: references for at, (_, references) in enumerate(pairs)}
    said = {at: [caption] for at, (caption, _) in enumerate(pairs)}
    return scorer.compute_score(truth, said)


@pytest.mark.parametrize("texts", [TEXTS, *(drawn(seed) for seed in range(3))])
def test_cider_bleu_and_rouge_are_those_of_cocos_evaluation(texts):
    series = Captioning().score(predictions(texts)).series
    found = computed(texts)
    cider, ciders = reference(texts, Cider())
    np.testing.assert_allclose(series["captioning/cider"], ciders, rtol=1e-9, atol=1e-12)
    assert found["captioning_cider_score"] == pytest.approx(cider, rel=1e-9)
    rouge, rouges = reference(texts, Rouge())
    np.testing.assert_allclose(series["captioning/rouge_l"], rouges, rtol=1e-9)
    assert found["captioning_rouge_l_fraction"] == pytest.approx(rouge, rel=1e-9)
    bleus, _ = reference(texts, QuietBleu(4))
    assert found["captioning_bleu_4_fraction"] == pytest.approx(bleus[3], rel=1e-6)


@pytest.mark.parametrize("texts", [TEXTS, drawn(7)])
def test_bleu_is_that_of_torchmetrics(texts):
    captions, references = zip(*pairs_of(texts), strict=True)
    assert computed(texts)["captioning_bleu_4_fraction"] == pytest.approx(
        float(bleu_score(captions, references)), rel=1e-6
    )


def test_it_is_found_by_name():
    assert find("metrics", "captioning") is Captioning


def test_tokens_are_lower_case_words_without_punctuation():
    assert tokens('A man\'s dog (brown) runs, "fast" - very fast... Does it? Yes!') == tuple(
        ["a", "man", "'s", "dog", "-lrb-", "brown", "-rrb-", "runs", "fast", "very", "fast", "does", "it", "yes"]
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog runs. A cat sits.", "a dog runs a cat sits"),
        ("a man’s “red” hat – big", "a man 's red hat big"),
        ("St. Louis, U.S. flag at 3:30 p.m. today", "st. louis u.s. flag at 3:30 p.m. today"),
        ("A man's dog can't run, doesn't it?", "a man 's dog ca n't run does n't it"),
        ("a dog...and a cat", "a dog and a cat"),
        ("black-and-white photo of cats/dogs and 1/2 pizza", "black-and-white photo of cats/dogs and 1/2 pizza"),
        ("Mr. Smith & Sons, $5.00 each\n", "mr. smith & sons $ 5.00 each"),
        (" ... ", ""),
    ],
)
def test_tokens_are_those_that_stanfords_tokenizer_gave(text, expected):
    """Recorded from pycocoevalcap's PTBTokenizer (Stanford CoreNLP 3.4.1), which needs Java."""
    assert " ".join(tokens(text)) == expected


def test_tokens_equal_every_recorded_answer_of_the_original():
    """Recorded from the same tokenizer, each caption by itself. A blank within a token is a no-break space there."""
    assert len(ANSWERS) == 1522
    assert {text: " ".join(tokens(text)) for text, _ in ANSWERS} == dict(ANSWERS)


def test_a_caption_in_quotes_scores_as_the_one_without():
    for opening, closing in ("''", '""', "‘’", "“”"):
        said = f"a sign that says {opening}stop here{closing} in red"
        found = computed([(said, ["a sign that says stop here in red"]), ("a cat", ["a dog"])])
        assert found["captioning_exact_match_fraction"] == 0.5


@pytest.mark.parametrize(
    ("tokenizer", "text", "expected"),
    [
        ("zh", "一只猫 sits.", "一 只 猫 sits ."),
        ("char", "ein Hund", "e i n h u n d"),
        ("13a", "Ein Hund, 3.5 m.", "ein hund , 3.5 m ."),
        ("ptb", "Ein Hund, 3.5 m.", "ein hund 3.5 m."),
    ],
)
def test_captions_are_split_by_the_tokenizer_that_is_chosen(tokenizer, text, expected):
    assert " ".join(tokens(text, tokenizer)) == expected
    texts = [(text, [text]), ("x y", ["z"])]
    assert Captioning(tokenizer).score(predictions(texts)).series["captioning/caption_tokens"][0] == len(
        expected.split()
    )


def test_a_tokenizer_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"metrics\.captioning\.tokenizer=char1: no such value; did you mean 'char'\?"
    ):
        Captioning("char1")


def test_a_picture_without_references_is_refused_by_name():
    with pytest.raises(ValueError, match="captioning: 1 has no reference"):
        Captioning().score(predictions([("a dog", ["a dog"]), ("a cat", [])]))


def test_a_right_caption_is_exact_whatever_its_case_and_stop():
    found = computed([("A red ring.", ["a blue star", "a red ring"]), ("a red star", ["a red ring"])])
    assert found["captioning_exact_match_fraction"] == 0.5
    assert found["captioning_token_f1_fraction"] == pytest.approx((1 + 2 / 3) / 2)


def test_captions_equal_to_their_only_reference_have_the_best_scores():
    texts = [(text, [text]) for text in ("a red ring above a blue star", "two cats asleep on a sofa today")]
    found = computed(texts)
    assert found["captioning_bleu_4_fraction"] == pytest.approx(1)
    assert found["captioning_rouge_l_fraction"] == pytest.approx(1)
    assert found["captioning_cider_score"] == pytest.approx(10)


def test_an_empty_caption_scores_nothing_and_is_counted():
    series = Captioning().score(predictions([("", ["a dog"]), ("a cat", ["a cat"])])).series
    for name in ("cider", "rouge_l", "exact_match", "token_f1"):
        assert series[f"captioning/{name}"][0] == 0
    found = computed([("", ["a dog"]), ("a cat", ["a cat"])])
    assert found["captioning_empty_count"] == 1
    assert found["captioning_pictures_count"] == 2
    assert computed([("", ["a dog"])])["captioning_bleu_4_fraction"] == 0


def test_one_picture_has_no_cider_and_the_reason_is_told():
    metrics = Captioning().compute(Captioning().score(predictions([("a dog", ["a dog"])])))
    assert metrics.values["captioning_cider_score"] is None
    names = [f"captioning_cider_{what}score" for what in ("", "low_", "high_")]
    assert metrics.reasons == dict.fromkeys(names, "with one image, CIDEr-D cannot weigh words by how rare they are")
    assert metrics.values["captioning_exact_match_fraction"] == 1


def test_repeating_a_word_earns_no_more():
    other = ("a cat", ["a cat on a mat"])
    once, often = (
        Captioning().score(predictions([(caption, ["dogs run"]), other])).series["captioning/cider"][0]
        for caption in ("dogs run", "dogs run dogs run dogs run")
    )
    assert often < once


def test_of_two_references_as_near_the_shorter_is_taken():
    assert closest(5, [3, 7]) == 3
    assert closest(5, [9, 6, 1]) == 6


def test_numbers_can_be_computed_again_from_series_alone():
    samples = Captioning().score(predictions(TEXTS))
    assert all(values.dtype == np.float64 for values in samples.series.values())
    assert Captioning().compute(Samples(samples.series)) == Captioning().compute(samples)


@pytest.mark.parametrize(("tokenizer", "flagged"), [("ptb", True), ("13a", True), ("char", False), ("zh", False)])
@pytest.mark.parametrize("reference", ["一个红色的圆", "วงกลมสีแดง", "赤い円", "リング"])
def test_references_without_blanks_between_words_are_flagged_unless_the_tokenizer_divides_them(
    reference, tokenizer, flagged
):
    texts = Predictions(["0", "1"], {"caption": ["a", "b"], "references": [["a red circle"], [reference]]})
    flags = Captioning(tokenizer).score(texts).flags
    assert flags.keys() == ({"references_unsegmented"} if flagged else set())
    assert not flagged or flags["references_unsegmented"].startswith("1 of 2 references are in a script without spaces")
