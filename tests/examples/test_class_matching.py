"""Matching data classes to a model's classes: spellings, synonyms, numbers, mappings, and errors."""

import pytest

from visionbench.core import ConfigError, DataClass
from visionbench.examples import class_matching
from visionbench.examples.class_matching import describe_unknown, match_classes
from visionbench.examples.class_names import find_nearest, make_unique, normalize

SHAPES = ["ring and ring", "ring and square", "ring and star"]
SYNSETS = [f"n{index:08d}" for index in range(1000)]
"""Numbers that replace ImageNet's; the fixture `usual` replaces the digest accordingly."""


def match(model_names, names, **targets):
    return match_classes(model_names, [DataClass(name, target=targets.get(name)) for name in names]).indices


@pytest.fixture
def usual(monkeypatch):
    """Names of a model in ImageNet's usual order, for data with the 1,000 numbers in SYNSETS."""
    import hashlib

    monkeypatch.setattr(class_matching, "IMAGENET_SHA256", hashlib.sha256("\n".join(SYNSETS).encode()).hexdigest())
    model_names = [f"object {index}" for index in range(1000)]
    for index, names in class_matching.LANDMARKS.items():
        model_names[index] = f"{names[0]}, another name {index}"
    model_names[134] = model_names[517] = "crane"
    return model_names


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
    assert match(SHAPES, [spelling]) == {spelling: 1}


def test_both_unicode_forms_of_an_accent_are_one_name():
    assert match(["cafe\u0301", "th\u00e9"], ["caf\u00e9", "the\u0301"]) == {"caf\u00e9": 0, "the\u0301": 1}


def test_the_same_classes_in_another_order_are_matched_by_name():
    assert match(["a", "b", "c"], ["C", "a", "b"]) == {"C": 2, "a": 0, "b": 1}


def test_some_of_the_classes_are_matched_by_name_or_synonym():
    model_names = ["tench, Tinca tinca", "Great White", "hen"]
    assert match(model_names, ["great white", "Tinca tinca"]) == {"great white": 1, "Tinca tinca": 0}


def test_unknown_classes_are_not_matched_by_their_order():
    assert match_classes(["tench", "shark", "hen"], [DataClass(name) for name in ("n01", "n02", "n03")]).unknown == (
        "n01",
        "n02",
        "n03",
    )


def test_one_unknown_class_among_known_classes_is_reported():
    assert match_classes(["tench", "shark", "hen"], [DataClass("tench"), DataClass("hem")]).unknown == ("hem",)


@pytest.mark.parametrize("names", [[str(index) for index in range(12)], [f"{index:03d}" for index in range(12)]])
def test_folders_named_exactly_by_the_indices_are_matched_by_index_and_flagged(names):
    matching = match_classes([f"LABEL_{index}" for index in range(12)], [DataClass(name) for name in sorted(names)])
    assert matching.indices == {name: int(name) for name in names}
    assert set(matching.assumed) == {"classes_by_index"}


@pytest.mark.parametrize("names", [["1", "2", "3"], ["0", "1"], ["0", "1", "two"], ["0", "1", "1"]])
def test_numbers_that_are_not_exactly_the_indices_are_unknown(names):
    assert match_classes(["x", "y", "z"], [DataClass(name) for name in dict.fromkeys(names)]).unknown


def test_numbers_that_are_names_of_the_model_are_matched_as_names():
    matching = match_classes(["1", "2", "0"], [DataClass(name) for name in ("0", "01", "2")])
    assert matching.indices == {"0": 2, "01": 0, "2": 1}
    assert not matching.assumed


def test_numbers_are_not_indices_if_some_are_names_of_the_model():
    assert match_classes(["1", "2", "3"], [DataClass(name) for name in ("0", "1", "2")]).unknown == ("0",)


def test_the_models_own_numbers_are_matched_in_any_order():
    model_names = ["n02 object", "n01443537 goldfish", "n01440764 tench, Tinca tinca"]
    assert match(model_names, ["n01440764", "n01443537"]) == {"n01440764": 2, "n01443537": 1}


def test_a_folder_named_by_number_and_name_is_matched_by_its_name():
    assert match(["goldfish", "tench, Tinca tinca"], ["n01440764-tench"]) == {"n01440764-tench": 1}


def test_imagenets_numbers_are_matched_by_the_usual_order_if_the_models_names_confirm_it(usual):
    matching = match_classes(usual, [DataClass(number) for number in SYNSETS])
    assert matching.indices == {number: index for index, number in enumerate(SYNSETS)}
    assert not matching.assumed


def test_two_classes_with_one_name_are_distinguished_by_their_numbers(usual):
    data = [DataClass(name, number) for name, number in zip(usual, SYNSETS, strict=True)]
    data[134], data[517] = (DataClass(f"crane ({SYNSETS[index]})", SYNSETS[index]) for index in (134, 517))
    assert match_classes(usual, data).indices == {one.name: index for index, one in enumerate(data)}


def test_the_usual_order_is_flagged_if_the_models_names_do_not_confirm_it(usual):
    matching = match_classes([f"LABEL_{index}" for index in range(1000)], [DataClass(number) for number in SYNSETS])
    assert matching.indices[SYNSETS[999]] == 999
    assert set(matching.assumed) == {"classes_by_order"}


def test_a_model_with_another_order_is_not_matched_by_number(usual):
    assert match_classes(usual[::-1], [DataClass(number) for number in SYNSETS]).unknown


def test_a_subset_of_imagenets_numbers_is_not_matched_by_order(usual):
    assert len(match_classes(usual, [DataClass(number) for number in SYNSETS[:999]]).unknown) == 999


def test_shared_names_with_numbers_are_paired_in_order_and_flagged():
    model_names = ["hen", "crane", "rule, ruler", "crane"]
    data = ["hen", "crane (n02012849)", "rule, ruler", "crane (n03126707)"]
    matching = match_classes(model_names, [DataClass(name) for name in data])
    assert matching.indices == {name: index for index, name in enumerate(data)}
    assert set(matching.assumed) == {"shared_names"}


def test_a_name_that_two_model_classes_share_is_an_error_that_names_both():
    with pytest.raises(ConfigError, match=r"'crane' may be the model's class 1 'crane' or 2 'crane'; .*\{crane: 1\}"):
        match(["hen", "crane", "crane"], ["crane"])


def test_a_synonym_of_two_model_classes_is_an_error_that_names_both():
    model_names = ["lesser panda, red panda, panda, bear cat", "giant panda, panda, panda bear", "hen"]
    with pytest.raises(ConfigError, match=r"'panda' may be .* 0 'lesser panda, .*' or 1 'giant panda, "):
        match(model_names, ["panda"])
    assert match(model_names, ["panda bear", "red_panda"]) == {"panda bear": 1, "red_panda": 0}


def test_a_full_name_precedes_a_synonym():
    assert match(["maillot", "maillot, tank suit"], ["maillot", "tank suit"]) == {"maillot": 0, "tank suit": 1}


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("red_fox", "red fox"), ("tabby", "cat")])
def test_two_data_classes_that_match_one_model_class_are_an_error(pair):
    with pytest.raises(ConfigError, match=rf"'{pair[0]}' and '{pair[1]}' both are the model's class"):
        match(["cat, tabby", "red fox"], pair)


@pytest.mark.parametrize(("target", "index"), [(2, 2), ("Hen", 2), ("tinca tinca", 0)])
def test_a_mapping_determines_the_class(target, index):
    matching = match_classes(["tench, Tinca tinca", "shark", "hen"], [DataClass("katze", target=target)])
    assert matching.indices == {"katze": index}
    assert not matching.assumed


def test_a_mapping_of_every_number_is_not_flagged():
    data = [DataClass(str(index), target=index) for index in range(3)]
    assert match_classes(["x", "y", "z"], data).assumed == {}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (3, "numbered 0 to 2"),
        (-1, "numbered 0 to 2"),
        ("shrak", "none of the model's 3 classes; the nearest are 'shark'"),
        ("crane", "may be the model's class"),
    ],
)
def test_a_mapping_to_an_unknown_class_is_an_error(target, reason):
    with pytest.raises(ConfigError, match=rf"^data\.options\.classes: 'katze' is mapped to .*{reason}"):
        match_classes(["shark", "crane", "crane"], [DataClass("katze", target=target)])


def test_the_message_for_unknown_classes_names_five_and_counts_the_others():
    model_names = [f"object {index}" for index in range(1000)]
    text = describe_unknown([f"objec {index}" for index in range(700)], 900, model_names)
    assert text.startswith("the model does not have 700 of the data's 900 classes, such as 'objec 0'; did you mean")
    assert "… (700 in all)" in text and "1000 classes the nearest" in text
    assert len(text) < 500


def test_the_message_for_a_dissimilar_class_suggests_no_name():
    text = describe_unknown(["class 0"], 3, ["ring", "star"])
    assert "did you mean" not in text and "'ring'" in text


def test_the_nearest_names_are_returned_unchanged():
    assert find_nearest("ring_and_sqare", SHAPES, 1) == ["ring and square"]


def test_each_class_of_a_model_has_a_unique_name():
    assert make_unique(["crane", "hen", "crane"]) == ["crane (0)", "hen", "crane (2)"]


def test_normalized_names_of_different_classes_differ():
    assert len({normalize(name) for name in ("C", "C++", "c#", "café", "cafe", "1.05", "1.5", "7", "17")}) == 9
