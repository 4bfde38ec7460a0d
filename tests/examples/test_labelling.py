"""The meaning of labels for a model: its own classes, texts, or none if no metric reads labels."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from visionbench.core import Case, ConfigError, DataClass, Example
from visionbench.examples.labelling import resolve_labelling
from visionbench.metrics.classification import Classification
from visionbench.metrics.recall import Recall
from visionbench.models.dual_encoder import DualEncoder
from visionbench.parts import Parts


def resolve(names, model_names=None, adapter=None, metric="classification", on_error="fail", **targets):
    """The labelling of data with these classes, for a model with the classes `own` or for another adapter."""
    data = SimpleNamespace(described_classes=lambda: [DataClass(name, target=targets.get(name)) for name in names])
    config = SimpleNamespace(data=SimpleNamespace(name="mine", on_error=on_error), model=SimpleNamespace(name="theirs"))
    adapter = adapter or (SimpleNamespace(class_names=lambda model: model_names) if model_names else DualEncoder())
    metrics = {"classification": Classification(), "recall": Recall()}
    case = Case("quality", 1, ("evaluation",), (metric,))
    return resolve_labelling(config, Parts(adapter, None, data, metrics), [case])


def test_labels_are_not_resolved_if_no_metric_reads_them():
    assert not resolve(["x"], model_names=["a", "b"], metric="recall").classes


def test_examples_are_labelled_with_the_models_own_names():
    labelling = resolve(["B_b", "a"], model_names=["a", "b b", "c"])
    (one,) = labelling.relabel([Example("0", Path("x"), label="B_b")])
    assert (labelling.classes, one.label) == (("a", "b b", "c"), "b b")


def test_an_example_without_a_label_cannot_be_used():
    labelling = resolve(["a"], model_names=["a", "b"])
    assert labelling.find_problems([Example("0", Path("x"), label="a"), Example("1", Path("x"))]).keys() == {"1"}


def test_an_unknown_class_is_an_error_or_with_skip_left_out_if_another_class_is_known():
    with pytest.raises(
        ConfigError, match="^data=mine, model=theirs: the model does not have 1 of the data's 2 classes"
    ):
        resolve(["a", "zebra"], model_names=["a", "b"])
    labelling = resolve(["a", "zebra"], model_names=["a", "b"], on_error="skip")
    assert labelling.find_problems([Example("0", Path("x"), label="zebra")]) == {
        "0": "the model does not have its class 'zebra'"
    }
    with pytest.raises(ConfigError, match="does not have 1 of the data's 1 classes"):
        resolve(["zebra"], model_names=["a", "b"], on_error="skip")


def test_texts_are_the_class_names_or_the_names_in_the_config_and_never_an_index():
    labelling = resolve(["katze", "hund"], katze="cat", hund=3)
    assert labelling.classes == ("cat", "hund")
    assert labelling.relabel([Example("0", Path("x"), label="katze")])[0].label == "cat"


@pytest.mark.parametrize("names", [["red_fox", "red fox"], ["Cat", "cat"]])
def test_two_spellings_of_one_text_are_an_error(names):
    with pytest.raises(ConfigError, match="are one class by their names"):
        resolve(names)


def test_two_classes_with_one_name_in_the_config_are_an_error():
    with pytest.raises(ConfigError, match="'katze' and 'kater' are one class by their names"):
        resolve(["katze", "kater"], katze="cat", kater="cat")


@pytest.mark.parametrize("name", ["n01440764", "LABEL_3", "label 3", "class_7"])
def test_a_class_number_is_an_error_only_if_classes_are_scored_by_texts(name):
    with pytest.raises(ConfigError, match=rf"1 of the data's 2 classes are numbers, such as '{name}'"):
        resolve([name, "cat"])
    assert resolve([name, "cat"], adapter=SimpleNamespace()).classes == (name, "cat")


def test_an_index_for_a_model_that_needs_names_is_flagged():
    labelling = resolve(["hund", "cat"], hund=207)
    assert (labelling.classes, labelling.flags.keys()) == (("hund", "cat"), {"class_indices_unused"})
    assert not resolve(["hund", "cat"], model_names=["dog", "cat"], hund=0).flags


def test_class_names_that_are_digits_are_flagged():
    assert resolve(["7", "8"]).flags.keys() == {"classes_are_numbers"}


@pytest.mark.parametrize(
    "names", [["001.Black_footed_Albatross", "002.Crow"], ["n02085620-Chihuahua", "n02085782-Pug"]]
)
def test_class_names_that_begin_with_a_number_are_flagged(names):
    assert resolve(names).flags.keys() == {"classes_begin_with_numbers"}
    assert not resolve(["3D printer", "747", "crow", "gull"]).flags.keys() & {"classes_begin_with_numbers"}
