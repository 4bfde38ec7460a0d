"""Suggestions for the terms of other tools."""

import pytest

from visionbench import suggestions
from visionbench.config import list_options, schema_keys

PRECISIONS = (
    "autocast_bf16",
    "autocast_fp16",
    "bf16",
    "fp16",
    "fp32",
    "fp8",
    "int8_dynamic",
    "int8_weight_only",
    "tf32",
)
LISTED = f"; there are: {', '.join(PRECISIONS)}"


@pytest.mark.parametrize(
    ("group", "value", "ending"),
    [
        ("batch", 8, "; did you mean batch.sizes=[8]?"),
        ("batch", [1, 2], "; did you mean batch.sizes=[1,2]?"),
        ("batch", "16", "; did you mean batch.sizes=[16]?"),
        ("precision", 16, "; did you mean precision=fp16?"),
        ("precision", "Float16", "; did you mean precision=fp16?"),
        ("precision", "half", "; did you mean precision=fp16?"),
        ("precision", "bfloat16", "; did you mean precision=bf16?"),
        ("precision", 32, "; did you mean precision=fp32?"),
        ("precision", "FP16", "; did you mean 'fp16'?"),
        ("precision", "fp8", LISTED),
        ("precision", "uint8", LISTED),
        ("precision", None, LISTED),
        ("precision", "int8", "; did you mean precision=int8_dynamic?"),
        ("precision", 8, "; did you mean precision=int8_dynamic?"),
        ("precision", "w8a16", "; did you mean precision=int8_weight_only?"),
        ("precision", "amp", "; did you mean precision=autocast_fp16?"),
        ("precision", "16-mixed", "; did you mean precision=autocast_fp16?"),
        ("precision", "bf16-mixed", "; did you mean precision=autocast_bf16?"),
        ("device", "gpu", "; did you mean device=cuda?"),
        ("device", 0, "; did you mean device=cuda?"),
        ("device", "cuda:1", "; did you mean device=cuda device.index=1?"),
        ("tracking", False, "; did you mean tracking=none?"),
        ("metrics", "accuracy", "; did you mean metrics=[classification]?"),
    ],
)
def test_a_wrong_option_is_answered_with_the_option_that_is_similar(group, value, ending):
    options = PRECISIONS if group == "precision" else list_options(group)
    assert suggestions.option(group, value, options) == ending


@pytest.mark.parametrize("group", suggestions.OPTIONS)
def test_every_suggested_option_exists(group):
    for suggestion in suggestions.OPTIONS[group]:
        name, _, option = suggestion.partition("=")
        assert name == group and option.strip("[]") in list_options(group)


@pytest.mark.parametrize(
    ("wrong", "value", "meant"),
    [
        ("batch_size", "8", "batch.sizes=[8]"),
        ("batch_size", None, "batch.sizes=…"),
        ("num_threads", 4, "device.threads=4"),
        ("output", "there", "output_dir=there"),
        ("zzz", 1, None),
    ],
)
def test_a_key_of_another_tool_is_answered_with_the_key_of_visionbench(wrong, value, meant):
    assert suggestions.key(wrong, value) == meant


def test_every_suggested_key_exists_and_no_name_has_two_meanings():
    names = [name for others in suggestions.KEYS.values() for name in others]
    assert len(names) == len(set(names))
    assert set(suggestions.KEYS) <= {*schema_keys(), "data.options.samples"}
    assert not set(names) & set(schema_keys())
