"""Caption scores, compared with the implementation in COCO's evaluation and with values computed by hand."""

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
RECORDED = json.loads((Path(__file__).parent / "ptb_answers.json").read_text("utf-8"))
WORDS = ["a", "man", "dog", "red", "runs", "the", "on", "street", "big", "small", "with", "and", "sits", "near", "two"]


class QuietBleu(Bleu):
    """Bleu without its printed line for each corpus."""

    def compute_score(self, truth, captions):
        return super().compute_score(truth, captions, verbose=0)


def as_pairs(texts):
    return list(texts.items()) if isinstance(texts, dict) else texts


def predictions(texts):
    pairs = as_pairs(texts)
    columns = {"caption": [caption for caption, _ in pairs], "references": [references for _, references in pairs]}
    return Predictions([str(index) for index in range(len(pairs))], columns)


def compute(texts):
    return Captioning().compute(Captioning().score(predictions(texts))).values


def random_texts(seed, images=60):
    """Return captions, each with one to six references that are copies with some words changed; 1 to 13 words each."""
    rng = np.random.default_rng(seed)

    def changed(words):
        new_words = [word if rng.random() < 0.7 else str(rng.choice(WORDS)) for word in words]
        return " ".join(new_words[: rng.integers(1, 14)])

    captions = [[str(word) for word in rng.choice(WORDS, rng.integers(1, 14))] for _ in range(images)]
    return [(" ".join(words), [changed(words) for _ in range(rng.integers(1, 7))]) for words in captions]


def reference(texts, scorer):
    """Return the score of the corpus and of each image from a scorer of COCO's evaluation."""
    pairs = as_pairs(texts)
    truth = {index: references for index, (_, references) in enumerate(pairs)}
    captions = {index: [caption] for index, (caption, _) in enumerate(pairs)}
    return scorer.compute_score(truth, captions)


@pytest.mark.parametrize("texts", [TEXTS, *(random_texts(seed) for seed in range(3))])
def test_cider_bleu_and_rouge_agree_with_cocos_evaluation(texts):
    series = Captioning().score(predictions(texts)).series
    values = compute(texts)
    cider, ciders = reference(texts, Cider())
    np.testing.assert_allclose(series["captioning/cider"], ciders, rtol=1e-9, atol=1e-12)
    assert values["captioning_cider_score"] == pytest.approx(cider, rel=1e-9)
    rouge, rouges = reference(texts, Rouge())
    np.testing.assert_allclose(series["captioning/rouge_l"], rouges, rtol=1e-9)
    assert values["captioning_rouge_l_fraction"] == pytest.approx(rouge, rel=1e-9)
    bleus, _ = reference(texts, QuietBleu(4))
    assert values["captioning_bleu_4_fraction"] == pytest.approx(bleus[3], rel=1e-6)


@pytest.mark.parametrize("texts", [TEXTS, random_texts(7)])
def test_bleu_agrees_with_torchmetrics(texts):
    captions, references = zip(*as_pairs(texts), strict=True)
    assert compute(texts)["captioning_bleu_4_fraction"] == pytest.approx(
        float(bleu_score(captions, references)), rel=1e-6
    )


def test_the_registry_finds_the_metric_by_name():
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
def test_tokens_agree_with_stanfords_tokenizer(text, expected):
    """The expected tokens are recorded from pycocoevalcap's PTBTokenizer (Stanford CoreNLP 3.4.1), which needs Java."""
    assert " ".join(tokens(text)) == expected


def test_tokens_agree_with_every_recorded_output_of_stanfords_tokenizer():
    """Each caption was recorded alone from the same tokenizer, which writes a space in a token as a no-break space."""
    assert len(RECORDED) == 1522
    assert {text: " ".join(tokens(text)) for text, _ in RECORDED} == dict(RECORDED)


def test_quotation_marks_in_a_caption_do_not_change_its_score():
    for opening, closing in ("''", '""', "‘’", "“”"):
        caption = f"a sign that says {opening}stop here{closing} in red"
        values = compute([(caption, ["a sign that says stop here in red"]), ("a cat", ["a dog"])])
        assert values["captioning_exact_match_fraction"] == 0.5


@pytest.mark.parametrize(
    ("tokenizer", "text", "expected"),
    [
        ("zh", "一只猫 sits.", "一 只 猫 sits ."),
        ("char", "ein Hund", "e i n h u n d"),
        ("13a", "Ein Hund, 3.5 m.", "ein hund , 3.5 m ."),
        ("ptb", "Ein Hund, 3.5 m.", "ein hund 3.5 m."),
    ],
)
def test_captions_are_split_by_the_configured_tokenizer(tokenizer, text, expected):
    assert " ".join(tokens(text, tokenizer)) == expected
    texts = [(text, [text]), ("x y", ["z"])]
    assert Captioning(tokenizer).score(predictions(texts)).series["captioning/caption_tokens"][0] == len(
        expected.split()
    )


def test_an_unknown_tokenizer_is_refused_and_the_nearest_name_is_suggested():
    with pytest.raises(
        ConfigError, match=r"metrics\.captioning\.tokenizer=char1: no such value; did you mean 'char'\?"
    ):
        Captioning("char1")


def test_the_error_for_an_image_without_references_has_its_id():
    with pytest.raises(ValueError, match="captioning: 1 has no reference"):
        Captioning().score(predictions([("a dog", ["a dog"]), ("a cat", [])]))


def test_exact_match_ignores_case_and_the_final_full_stop():
    values = compute([("A red ring.", ["a blue star", "a red ring"]), ("a red star", ["a red ring"])])
    assert values["captioning_exact_match_fraction"] == 0.5
    assert values["captioning_token_f1_fraction"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_caption_equal_to_its_only_reference_has_the_best_scores():
    texts = [(text, [text]) for text in ("a red ring above a blue star", "two cats asleep on a sofa today")]
    values = compute(texts)
    assert values["captioning_bleu_4_fraction"] == pytest.approx(1)
    assert values["captioning_rouge_l_fraction"] == pytest.approx(1)
    assert values["captioning_cider_score"] == pytest.approx(10)


def test_an_empty_caption_scores_zero_and_is_counted():
    series = Captioning().score(predictions([("", ["a dog"]), ("a cat", ["a cat"])])).series
    for name in ("cider", "rouge_l", "exact_match", "token_f1"):
        assert series[f"captioning/{name}"][0] == 0
    values = compute([("", ["a dog"]), ("a cat", ["a cat"])])
    assert values["captioning_empty_count"] == 1
    assert values["captioning_pictures_count"] == 2
    assert compute([("", ["a dog"])])["captioning_bleu_4_fraction"] == 0


def test_cider_of_one_image_is_none_with_the_reason():
    metrics = Captioning().compute(Captioning().score(predictions([("a dog", ["a dog"])])))
    assert metrics.values["captioning_cider_score"] is None
    names = [f"captioning_cider_{end}score" for end in ("", "low_", "high_")]
    assert metrics.reasons == dict.fromkeys(names, "with one image, CIDEr-D cannot weigh words by how rare they are")
    assert metrics.values["captioning_exact_match_fraction"] == 1


def test_a_repeated_phrase_lowers_cider():
    unchanged = ("a cat", ["a cat on a mat"])
    once, often = (
        Captioning().score(predictions([(caption, ["dogs run"]), unchanged])).series["captioning/cider"][0]
        for caption in ("dogs run", "dogs run dogs run dogs run")
    )
    assert often < once


def test_bleu_uses_the_shorter_of_two_equally_near_reference_lengths():
    assert closest(5, [3, 7]) == 3
    assert closest(5, [9, 6, 1]) == 6


def test_metrics_can_be_recomputed_from_the_series_alone():
    samples = Captioning().score(predictions(TEXTS))
    assert all(values.dtype == np.float64 for values in samples.series.values())
    assert Captioning().compute(Samples(samples.series)) == Captioning().compute(samples)


@pytest.mark.parametrize(("tokenizer", "flagged"), [("ptb", True), ("13a", True), ("char", False), ("zh", False)])
@pytest.mark.parametrize("reference", ["一个红色的圆", "วงกลมสีแดง", "赤い円", "リング"])
def test_references_without_spaces_are_flagged_unless_the_tokenizer_splits_them(reference, tokenizer, flagged):
    texts = Predictions(["0", "1"], {"caption": ["a", "b"], "references": [["a red circle"], [reference]]})
    flags = Captioning(tokenizer).score(texts).flags
    assert flags.keys() == ({"references_unsegmented"} if flagged else set())
    assert not flagged or flags["references_unsegmented"].startswith("1 of 2 references are in a script without spaces")
