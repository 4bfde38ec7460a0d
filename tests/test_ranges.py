"""Ranges of numbers: every number of the schema has one, and a number outside it is refused with its key."""

import math
from dataclasses import fields, is_dataclass
from typing import get_args, get_type_hints

import pytest

from visionbench import ranges
from visionbench.config import ExperimentConfig
from visionbench.core import ConfigError
from visionbench.ranges import RANGE, Range


def numbers(cls, prefix=""):
    """The key, the field and the type of each number in a section of the schema, also in lists and dictionaries."""
    hints = get_type_hints(cls)
    for item in fields(cls):
        kind = hints[item.name]
        if is_dataclass(kind):
            yield from numbers(kind, f"{prefix}{item.name}.")
        elif {int, float} & {kind, *get_args(kind)}:
            yield prefix + item.name, item, kind


NUMBERS = list(numbers(ExperimentConfig))


@pytest.fixture
def refusal(config):
    """A function from a dotted key and a value to the message that refuses it, or None."""

    def refusal(key, value):
        changed = config()
        *sections, name = key.split(".")
        section = changed
        for step in sections:
            section = getattr(section, step)
        valid = getattr(section, name)
        if isinstance(valid, dict):
            value = {**valid, "cpu": value}
        setattr(section, name, [value] if isinstance(valid, list) else value)
        try:
            ranges.check(changed)
        except ConfigError as error:
            return str(error)
        return None

    return refusal


def test_the_schema_has_numbers_in_many_sections():
    assert len(NUMBERS) > 35
    assert {"measure.retries", "batch.sizes", "measure.warmup.max_ratio"} <= {key for key, _, _ in NUMBERS}


@pytest.mark.parametrize(("key", "item", "kind"), NUMBERS, ids=[key for key, _, _ in NUMBERS])
def test_every_number_of_the_schema_has_a_range(key, item, kind):
    assert isinstance(item.metadata.get(RANGE), Range)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 10**18])
@pytest.mark.parametrize("key", [key for key, _, _ in NUMBERS])
def test_a_number_that_cannot_work_is_refused_with_its_key(refusal, key, value):
    message = refusal(key, value)
    assert message is not None and message.startswith(key) and "\n" not in message


def test_the_defaults_are_in_their_ranges(config):
    for measure in ("quick", "standard", "thorough"):
        ranges.check(config(f"measure={measure}"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("measure.retries", -1, "measure.retries=-1: must be at least 0"),
        (
            "measure.retry_pause_seconds",
            math.nan,
            "measure.retry_pause_seconds=nan: not a number; give a number from 0 to 604,800",
        ),
        ("measure.latency.min_seconds", math.inf, "measure.latency.min_seconds=inf: must be at most 604,800"),
        ("measure.warmup.max_ratio", 0, "measure.warmup.max_ratio.cpu=0: must be at least 1"),
        ("measure.latency.median_within", 0, "measure.latency.median_within.cpu=0: must be more than 0"),
        (
            "measure.latency.percentile",
            1,
            "measure.latency.percentile=1: must be between 0 and 1; give one, as in 0.99",
        ),
        ("batch.sizes", 10**7, "batch.sizes[0]=10000000: must be at most 1,000,000"),
    ],
)
def test_the_message_names_the_bound(refusal, key, value, message):
    assert refusal(key, value) == message


@pytest.mark.parametrize("value", [0, 1])
def test_an_open_end_is_not_a_valid_value(value):
    with pytest.raises(ConfigError):
        Range(0, 1, open_low=True, open_high=True).check("key", value)
    Range(0, 1).check("key", value)
