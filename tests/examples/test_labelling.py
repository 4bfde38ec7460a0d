"""What labels mean to a model: of its own classes, as texts, and where nothing reads them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from visionbench.core import Case, DataClass, Example
from visionbench.examples.labelling import labelling
from visionbench.metrics.classification import Classification
from visionbench.metrics.recall import Recall
from visionbench.models.dual_encoder import DualEncoder
from visionbench.parts import Parts
from visionbench.registry import ConfigError


def settled(names, own=None, adapter=None, metric="classification", on_error="fail", **targets):
    """The labelling of data with these classes, for a model with classes of its own or another adapter."""
    data = SimpleNamespace(described_classes=lambda: [DataClass(name, target=targets.get(name)) for name in names])
    config = SimpleNamespace(data=SimpleNamespace(name="mine", on_error=on_error), model=SimpleNamespace(name="theirs"))
    adapter = adapter or (SimpleNamespace(labels=lambda model: own) if own else DualEncoder())
    metrics = {"classification": Classification(), "recall": Recall()}
    case = Case("quality", 1, ("evaluation",), (metric,))
    return labelling(config, Parts(adapter, None, data, metrics), [case])


def test_where_no_metric_reads_labels_nothing_is_settled():
    assert not settled(["x"], own=["a", "b"], metric="recall").classes


def test_examples_are_labelled_by_the_models_own_names():
    found = settled(["B_b", "a"], own=["a", "b b", "c"])
    (one,) = found.relabelled([Example("0", Path("x"), label="B_b")])
    assert (found.classes, one.label) == (("a", "b b", "c"), "b b")


def test_an_example_without_a_label_cannot_be_used():
    found = settled(["a"], own=["a", "b"])
    assert found.faults([Example("0", Path("x"), label="a"), Example("1", Path("x"))]).keys() == {"1"}


def test_an_unknown_class_is_refused_and_with_skip_left_out_as_long_as_one_is_known():
    with pytest.raises(
        ConfigError, match="^data=mine, model=theirs: the model does not know 1 of the data's 2 classes"
    ):
        settled(["a", "zebra"], own=["a", "b"])
    found = settled(["a", "zebra"], own=["a", "b"], on_error="skip")
    assert found.faults([Example("0", Path("x"), label="zebra")]) == {"0": "the model does not know its class 'zebra'"}
    with pytest.raises(ConfigError, match="does not know 1 of the data's 1 classes"):
        settled(["zebra"], own=["a", "b"], on_error="skip")


def test_texts_are_the_names_or_what_the_config_gives_for_them_and_an_index_is_none():
    found = settled(["katze", "hund"], katze="cat", hund=3)
    assert found.classes == ("cat", "hund")
    assert found.relabelled([Example("0", Path("x"), label="katze")])[0].label == "cat"


@pytest.mark.parametrize("names", [["red_fox", "red fox"], ["Cat", "cat"]])
def test_two_spellings_of_one_text_are_refused(names):
    with pytest.raises(ConfigError, match="are one class by their names"):
        settled(names)


def test_two_classes_that_the_config_gives_one_name_are_refused():
    with pytest.raises(ConfigError, match="'katze' and 'kater' are one class by their names"):
        settled(["katze", "kater"], katze="cat", kater="cat")


@pytest.mark.parametrize("name", ["n01440764", "LABEL_3", "label 3", "class_7"])
def test_a_number_that_no_text_explains_is_refused_for_texts_alone(name):
    with pytest.raises(ConfigError, match=rf"1 of the data's 2 classes are numbers, such as '{name}'"):
        settled([name, "cat"])
    assert settled([name, "cat"], adapter=SimpleNamespace()).classes == (name, "cat")


def test_an_index_for_a_model_that_reads_names_is_flagged():
    found = settled(["hund", "cat"], hund=207)
    assert (found.classes, found.flags.keys()) == (("hund", "cat"), {"class_indices_unused"})
    assert not settled(["hund", "cat"], own=["dog", "cat"], hund=0).flags


def test_digits_as_texts_are_flagged():
    assert settled(["7", "8"]).flags.keys() == {"classes_are_numbers"}


@pytest.mark.parametrize(
    "names", [["001.Black_footed_Albatross", "002.Crow"], ["n02085620-Chihuahua", "n02085782-Pug"]]
)
def test_names_that_begin_with_a_number_are_flagged_for_texts(names):
    assert settled(names).flags.keys() == {"classes_begin_with_numbers"}
    assert not settled(["3D printer", "747", "crow", "gull"]).flags.keys() & {"classes_begin_with_numbers"}
