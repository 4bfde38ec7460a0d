"""What differs between configurations, the labels of keys, and the names of runs."""

import pytest

from visionbench.core import RunPlan
from visionbench.variation import differences, labels, matching_keys, named, shortened, text

BASE = {
    "model": {"name": "clip_tiny", "attention": "sdpa", "options": {"part": "both"}},
    "device": {"name": "cpu", "index": 0, "threads": 1},
    "precision": {"name": "fp32", "dtype": "float32"},
    "batch": {"sizes": [1, 4]},
    "data": {"name": "shapes", "root": None, "options": {}},
    "metrics": {"latency": {}, "recall": {"ks": [1, 5]}},
    "measure": {"name": "quick", "latency": {"calls": None}, "throughput": {"calls": None}},
    "tracking": {"name": "mlflow"},
    "output_dir": "outputs",
}


def config(**changes):
    """Return the base with these values; `__` separates the parts of a key."""
    content = {name: dict(part) if isinstance(part, dict) else part for name, part in BASE.items()}
    for key, value in changes.items():
        *path, last = key.split("__")
        section = content
        for part in path:
            section[part] = dict(section[part])
            section = section[part]
        section[last] = value
    return content


@pytest.mark.parametrize(
    ("first", "second", "differing"),
    [
        ({}, {"device__threads": 4}, {"device.threads": ("1", "4")}),
        ({}, {"device__threads": None}, {"device.threads": ("1", "null")}),
        ({}, {"model__attention": "eager"}, {"model.attention": ("sdpa", "eager")}),
        ({}, {"model__options__image_size": 336}, {"model.options.image_size": ("–", "336")}),
        ({}, {"batch__sizes": [8]}, {"batch.sizes": ("1,4", "8")}),
        ({}, {"measure__latency__calls": 20}, {"measure.latency.calls": ("null", "20")}),
        ({}, {"metrics": {"latency": {}}}, {"metrics": ("latency,recall", "latency")}),
        ({}, {"metrics__recall": {"ks": [1]}}, {"metrics.recall.ks": ("1,5", "1")}),
        ({}, {"data__name": "coco", "data__root": "coco"}, {"data.name": ("shapes", "coco")}),
        ({}, {"model__name": "vit_b16", "model__attention": "eager"}, {}),
        ({}, {"precision__name": "bf16", "precision__dtype": "bfloat16"}, {}),
        ({}, {"output_dir": "elsewhere", "tracking__name": "none"}, {}),
        (
            {"experiment": "a", "device__threads": 1},
            {"experiment": "b", "device__threads": 2},
            {"experiment": ("a", "b")},
        ),
    ],
)
def test_the_keys_that_differ_are_listed_with_both_values(first, second, differing):
    both = differences([config(**first), config(**second)])
    assert [list(values) for values in both] == [list(differing)] * 2
    assert {key: (both[0][key], both[1][key]) for key in both[0]} == differing


def test_a_key_that_differs_for_one_model_is_listed_for_all_runs():
    runs = [config(), config(device__threads=4), config(model__name="vit_b16")]
    assert [values["device.threads"] for values in differences(runs)] == ["1", "4", "1"]


def test_an_experiment_that_one_run_does_not_have_is_no_difference():
    assert differences([config(), config(experiment="quick")]) == [{}, {}]


def test_one_configuration_has_no_differences():
    assert differences([config()]) == [{}]
    assert differences([]) == []


def test_a_label_is_as_short_as_it_can_be_and_unique():
    keys = ["device.threads", "data.name", "batch.sizes", "model.options.image_size", "experiment"]
    assert list(labels(keys).values()) == ["threads", "data", "batch", "image size", "experiment"]
    clashing = labels(["measure.latency.calls", "measure.throughput.calls", "device.threads"])
    assert list(clashing.values()) == ["latency calls", "throughput calls", "threads"]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("device.threads", ["device.threads"]),
        ("threads", ["device.threads"]),
        ("image size", ["model.options.image_size"]),
        ("image_size", ["model.options.image_size"]),
        ("size", ["model.options.size"]),
        ("calls", ["measure.latency.calls", "measure.throughput.calls"]),
        ("latency.calls", ["measure.latency.calls"]),
        ("hreads", []),
    ],
)
def test_a_name_stands_for_the_keys_that_it_ends(name, keys):
    known = ["device.threads", "model.options.image_size", "measure.latency.calls", "measure.throughput.calls"]
    known += ["model.options.size", "model.architecture.vision_config.size"]
    assert matching_keys(name, known) == keys


def test_values_are_texts_as_in_yaml_with_all_digits():
    assert [text(value) for value in (None, True, 0.02, 3.0, 0.12345678, [1, 2], "x", {"a": 1})] == [
        *("null", "true", "0.02", "3", "0.12345678", "1,2", "x", "a=1"),
    ]


def test_a_long_value_loses_its_middle():
    assert shortened("a" * 24) == "a" * 24
    short = shortened("checkpoints/first/" + "x" * 40 + "/last")
    assert len(short) == 24
    assert short.startswith("checkpoints/") and short.endswith("/last")


def plan(**changes):
    return RunPlan(
        **{"name": "", "model": "clip_tiny", "task": "", "device": "cpu", "precision": "fp32"} | changes, cases=()
    )


def test_the_name_of_a_run_has_what_differs_between_the_runs_of_the_sweep():
    plans = named([plan(), plan(precision="bf16")], [config(), config(device__threads=5)])
    assert [one.name for one in plans] == ["clip_tiny · cpu · fp32 · threads 1", "clip_tiny · cpu · bf16 · threads 5"]
    assert plans[1].varied == {"precision": "bf16", "device.threads": "5"}


def test_a_single_run_is_named_by_model_device_and_precision():
    assert [(one.name, one.varied) for one in named([plan()], [config()])] == [("clip_tiny · cpu · fp32", {})]


def test_a_run_without_the_key_that_differs_has_the_shorter_name():
    plans = named([plan(), plan()], [config(), config(model__options__image_size=336)])
    assert [one.name for one in plans] == ["clip_tiny · cpu · fp32", "clip_tiny · cpu · fp32 · image size 336"]


def test_the_experiment_of_a_run_is_part_of_its_name():
    plans = named([plan(experiment="a"), plan(experiment="b")], [config(), config(device__threads=2)])
    assert [one.name for one in plans] == [
        "clip_tiny · cpu · fp32 · experiment a",
        "clip_tiny · cpu · fp32 · experiment b",
    ]
