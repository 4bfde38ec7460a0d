"""Which of a model's classes a data class is: spellings, synonyms, numbers, mappings, and what is refused."""

import pytest

from visionbench.core import DataClass
from visionbench.examples import classes
from visionbench.examples.classes import key, match, nearest, refusal, unique
from visionbench.registry import ConfigError

SHAPES = ["ring and ring", "ring and square", "ring and star"]
SYNSETS = [f"n{at:08d}" for at in range(1000)]
"""Stands in for ImageNet's numbers, whose digest is replaced by that of these."""


def found(own, names, **targets):
    return match(own, [DataClass(name, target=targets.get(name)) for name in names]).indices


@pytest.fixture
def usual(monkeypatch):
    """A model whose landmarks are at their usual places, for data with 1,000 stand-in numbers."""
    import hashlib

    monkeypatch.setattr(classes, "IMAGENET_SHA256", hashlib.sha256("\n".join(SYNSETS).encode()).hexdigest())
    own = [f"thing {at}" for at in range(1000)]
    for at, names in classes.LANDMARKS.items():
        own[at] = f"{names[0]}, another name {at}"
    own[134] = own[517] = "crane"
    return own


@pytest.mark.parametrize(
    "spelling",
    [
        "ring_and_square",
        "Ring-And-Square",
        " ring  and square ",
        "RING_AND_SQUARE",
        "ring\u00a0and\u2011square",
        "\uff52\uff49\uff4e\uff47 and square",
        "ring\u200b and square",
    ],
)
def test_spellings_of_one_name_are_one_class(spelling):
    assert found(SHAPES, [spelling]) == {spelling: 1}


def test_both_unicode_forms_of_an_accent_are_one_name():
    assert found(["cafe\u0301", "th\u00e9"], ["caf\u00e9", "the\u0301"]) == {"caf\u00e9": 0, "the\u0301": 1}


def test_as_many_classes_in_another_order_are_found_by_name():
    assert found(["a", "b", "c"], ["C", "a", "b"]) == {"C": 2, "a": 0, "b": 1}


def test_a_part_of_the_classes_is_found_by_name_or_by_synonym():
    own = ["tench, Tinca tinca", "Great White", "hen"]
    assert found(own, ["great white", "Tinca tinca"]) == {"great white": 1, "Tinca tinca": 0}


def test_as_many_classes_of_which_none_is_known_are_not_taken_in_their_order():
    assert match(["tench", "shark", "hen"], [DataClass(name) for name in ("n01", "n02", "n03")]).unknown == (
        "n01",
        "n02",
        "n03",
    )


def test_one_unknown_class_beside_known_ones_is_told():
    assert match(["tench", "shark", "hen"], [DataClass("tench"), DataClass("hem")]).unknown == ("hem",)


@pytest.mark.parametrize("names", [[str(at) for at in range(12)], [f"{at:03d}" for at in range(12)]])
def test_folders_named_by_exactly_the_indices_are_matched_by_number_and_flagged(names):
    matching = match([f"LABEL_{at}" for at in range(12)], [DataClass(name) for name in sorted(names)])
    assert matching.indices == {name: int(name) for name in names}
    assert set(matching.assumed) == {"classes_by_index"}


@pytest.mark.parametrize("names", [["1", "2", "3"], ["0", "1"], ["0", "1", "two"], ["0", "1", "1"]])
def test_numbers_that_are_not_exactly_the_indices_are_unknown(names):
    assert match(["x", "y", "z"], [DataClass(name) for name in dict.fromkeys(names)]).unknown


def test_numbers_that_the_model_has_as_names_are_names():
    matching = match(["1", "2", "0"], [DataClass(name) for name in ("0", "01", "2")])
    assert matching.indices == {"0": 2, "01": 0, "2": 1}
    assert not matching.assumed


def test_numbers_of_which_the_model_knows_some_as_names_are_not_indices():
    assert match(["1", "2", "3"], [DataClass(name) for name in ("0", "1", "2")]).unknown == ("0",)


def test_a_models_own_numbers_decide_whatever_the_order():
    own = ["n02 thing", "n01443537 goldfish", "n01440764 tench, Tinca tinca"]
    assert found(own, ["n01440764", "n01443537"]) == {"n01440764": 2, "n01443537": 1}


def test_a_folder_of_number_and_name_is_found_by_its_name():
    assert found(["goldfish", "tench, Tinca tinca"], ["n01440764-tench"]) == {"n01440764-tench": 1}


def test_imagenets_numbers_are_the_usual_order_where_the_models_names_show_it(usual):
    matching = match(usual, [DataClass(number) for number in SYNSETS])
    assert matching.indices == {number: at for at, number in enumerate(SYNSETS)}
    assert not matching.assumed


def test_two_classes_of_one_name_are_told_apart_by_their_numbers(usual):
    data = [DataClass(name, number) for name, number in zip(usual, SYNSETS, strict=True)]
    data[134], data[517] = (DataClass(f"crane ({SYNSETS[at]})", SYNSETS[at]) for at in (134, 517))
    assert match(usual, data).indices == {one.name: at for at, one in enumerate(data)}


def test_where_names_say_nothing_the_usual_order_is_flagged(usual):
    matching = match([f"LABEL_{at}" for at in range(1000)], [DataClass(number) for number in SYNSETS])
    assert matching.indices[SYNSETS[999]] == 999
    assert set(matching.assumed) == {"classes_by_order"}


def test_a_model_in_another_order_is_not_matched_by_number(usual):
    assert match(usual[::-1], [DataClass(number) for number in SYNSETS]).unknown


def test_a_part_of_imagenets_numbers_is_not_taken_in_order(usual):
    assert len(match(usual, [DataClass(number) for number in SYNSETS[:999]]).unknown) == 999


def test_shared_names_with_numbers_are_paired_in_turn_and_flagged():
    own = ["hen", "crane", "rule, ruler", "crane"]
    data = ["hen", "crane (n02012849)", "rule, ruler", "crane (n03126707)"]
    matching = match(own, [DataClass(name) for name in data])
    assert matching.indices == {name: at for at, name in enumerate(data)}
    assert set(matching.assumed) == {"shared_names"}


def test_a_name_that_two_of_the_models_classes_share_is_refused_with_both():
    with pytest.raises(ConfigError, match=r"'crane' may be the model's class 1 'crane' or 2 'crane'; .*\{crane: 1\}"):
        found(["hen", "crane", "crane"], ["crane"])


def test_a_synonym_of_two_classes_is_refused_with_both():
    own = ["lesser panda, red panda, panda, bear cat", "giant panda, panda, panda bear", "hen"]
    with pytest.raises(ConfigError, match=r"'panda' may be .* 0 'lesser panda, .*' or 1 'giant panda, "):
        found(own, ["panda"])
    assert found(own, ["panda bear", "red_panda"]) == {"panda bear": 1, "red_panda": 0}


def test_a_whole_name_comes_before_a_synonym():
    assert found(["maillot", "maillot, tank suit"], ["maillot", "tank suit"]) == {"maillot": 0, "tank suit": 1}


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("red_fox", "red fox"), ("tabby", "cat")])
def test_two_data_classes_that_are_one_of_the_model_are_refused(pair):
    with pytest.raises(ConfigError, match=rf"'{pair[0]}' and '{pair[1]}' both are the model's class"):
        found(["cat, tabby", "red fox"], pair)


@pytest.mark.parametrize(("target", "index"), [(2, 2), ("Hen", 2), ("tinca tinca", 0)])
def test_a_mapping_decides(target, index):
    matching = match(["tench, Tinca tinca", "shark", "hen"], [DataClass("katze", target=target)])
    assert matching.indices == {"katze": index}
    assert not matching.assumed


def test_a_mapping_of_every_number_is_no_assumption():
    data = [DataClass(str(at), target=at) for at in range(3)]
    assert match(["x", "y", "z"], data).assumed == {}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (3, "numbered 0 to 2"),
        (-1, "numbered 0 to 2"),
        ("shrak", "none of the model's 3 classes; the nearest are 'shark'"),
        ("crane", "may be the model's class"),
    ],
)
def test_a_mapping_to_what_is_no_class_is_refused(target, said):
    with pytest.raises(ConfigError, match=rf"^data\.options\.classes: 'katze' is mapped to .*{said}"):
        match(["shark", "crane", "crane"], [DataClass("katze", target=target)])


def test_a_refusal_names_the_nearest_five_and_counts_the_rest():
    own = [f"thing {at}" for at in range(1000)]
    text = refusal([f"thin {at}" for at in range(700)], 900, own)
    assert text.startswith("the model does not know 700 of the data's 900 classes, such as 'thin 0'; did you mean")
    assert "… (700 in all)" in text and "1000 classes the nearest" in text
    assert len(text) < 500


def test_a_refusal_of_something_quite_different_offers_no_guess():
    text = refusal(["class 0"], 3, ["ring", "star"])
    assert "did you mean" not in text and "'ring'" in text


def test_nearest_gives_names_as_they_are():
    assert nearest("ring_and_sqare", SHAPES, 1) == ["ring and square"]


def test_each_class_of_a_model_has_a_name_of_its_own():
    assert unique(["crane", "hen", "crane"]) == ["crane (0)", "hen", "crane (2)"]


def test_a_key_keeps_what_tells_classes_apart():
    assert len({key(name) for name in ("C", "C++", "c#", "café", "cafe", "1.05", "1.5", "7", "17")}) == 9
