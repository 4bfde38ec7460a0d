"""Declarations: families of metrics, intervals, writing and reading, and the values that fields may have."""

import json

import pytest

from visionbench.core import MetricDeclaration, interval_ends, interval_half_width
from visionbench.declarations import Declarations
from visionbench.registry import find, names
from visionbench.results import declared

FAMILY = MetricDeclaration(
    "recall_{i2t,t2i}_at_<k>_fraction", "fraction", title="{0} R@{1}", translations={"zh": "{0} 前 {1}"}
)


def find_in(declaration, metric):
    return Declarations((declaration,)).find(metric)


def test_a_member_of_a_family_has_the_name_and_title_of_the_member():
    match = find_in(FAMILY, "recall_t2i_at_10_fraction")
    assert (match.name, match.heading(), match.heading("zh")) == ("recall_t2i_at_10_fraction", "t2i R@10", "t2i 前 10")
    assert find_in(FAMILY, "recall_t2t_at_10_fraction") is find_in(FAMILY, "recall_t2i_at_x_fraction") is None


def test_a_declared_name_has_precedence_over_a_family():
    exact = MetricDeclaration("flops_achieved_tflop_per_s", "TFLOP/s", meaning="all")
    declarations = Declarations((MetricDeclaration("flops_<part>_tflop_per_s", "TFLOP/s"), exact))
    assert declarations.find("flops_achieved_tflop_per_s").meaning == "all"
    assert declarations.find("flops_encoder_tflop_per_s").meaning == ""


def test_the_heading_is_the_name_if_there_is_no_title():
    assert MetricDeclaration("load_s", "s").heading("zh") == "load_s"


def test_interval_ends_and_widths_belong_to_their_metric_and_have_no_direction():
    speed = MetricDeclaration(
        "throughput_images_per_s", "1/s", better="higher", table=True, intervals=("across_processes",)
    )
    assert interval_ends(speed.name, "across_processes") == (
        "throughput_images_across_processes_low_per_s",
        "throughput_images_across_processes_high_per_s",
    )
    for name in (*interval_ends(speed.name, "across_processes"), interval_half_width(speed.name)):
        part = find_in(speed, name)
        assert (part.part_of, part.better, part.table) == (speed.name, "", False)
    assert find_in(speed, interval_ends(speed.name)[0]) is None
    family = MetricDeclaration("top_<k>_fraction", "fraction", intervals=("over_pictures",))
    assert find_in(family, "top_5_low_fraction").part_of == "top_5_fraction"


def test_declarations_of_all_bundled_metrics_survive_json():
    written = declared.bundled().to_json()
    assert Declarations.from_json(json.loads(json.dumps(written))).to_json() == written


@pytest.mark.parametrize("group", names("metrics"))
def test_the_unit_of_a_metric_is_the_last_part_of_its_name(group):
    suffixes = {"1/s": "_per_s", "°C": "_celsius", "FLOP/byte": "_flop_per_byte", "currency": "_per_1000_images"}
    declarations = Declarations.collect({group: find("metrics", group)})
    for declaration in declarations.members():
        unit = declaration.unit.lower().replace("/s", "_per_s")
        assert declaration.name.endswith(suffixes.get(declaration.unit, f"_{unit}")), declaration.name
        assert declaration.meaning


@pytest.mark.parametrize(
    "entry",
    [
        "load_s",
        {"unit": "s", "better": "more", "name": "load_s"},
        {"name": "load_s", "unit": "s", "order": "first"},
        {"name": "load_s", "unit": "s", "title": "{3}"},
    ],
)
def test_an_entry_that_cannot_be_read_counts_as_no_declaration(entry):
    good = {"name": "load_first_call_s", "unit": "s", "a key of a later version": 1}
    assert [one.name for one in Declarations.from_json({"load": [entry, good]}).listed] == ["load_first_call_s"]


@pytest.mark.parametrize("written", [None, [], {"load": None}, "load_s"])
def test_a_key_that_holds_no_declarations_is_read_as_none(written):
    assert Declarations.from_json(written).listed == ()


@pytest.mark.parametrize(
    ("field", "value"), [("better", "more"), ("kind", "energy"), ("gather", "sum"), ("intervals", ("over_time",))]
)
def test_a_field_with_an_unknown_value_is_refused_with_the_known_ones(field, value):
    with pytest.raises(ValueError, match=f"declaration of load_s: {field} is .*; use one of: "):
        MetricDeclaration("load_s", "s", **{field: value})
