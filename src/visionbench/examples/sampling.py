"""A sample of a data set's examples, and all its examples without sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import zip_longest
from typing import Any

from visionbench.core import DataSet, Example


def sample_evenly(examples: Sequence[Example], count: int | None) -> list[Example]:
    """Return `count` examples (all if None) in their order, evenly over the labels and over the images of each label.

    Without labels, return the first `count`. The sample is not random: the same folder gives the same sample.
    """
    if count is None or count >= len(examples):
        return list(examples)
    by_label: dict[str | None, list[int]] = {}
    for index, example in enumerate(examples):
        by_label.setdefault(example.label, []).append(index)
    if set(by_label) == {None}:
        return list(examples[:count])
    groups = list(by_label.values())
    if count < len(groups):
        groups = _take_evenly(groups, count)
    rounds = zip_longest(*(range(len(group)) for group in groups))  # each round takes one example of each group
    order = [number for places in rounds for number, place in enumerate(places) if place is not None][:count]
    indices = [index for number, group in enumerate(groups) for index in _take_evenly(group, order.count(number))]
    return [examples[index] for index in sorted(indices)]


def list_all_examples(data: DataSet) -> Sequence[Example]:
    """Return the examples of a data set without its option `samples`, if that option can be omitted."""
    if getattr(data, "samples", None) is None or not is_dataclass(data):
        return data.examples()
    optional = any(option.name == "samples" and option.default is None for option in fields(data))
    unsampled: Any = replace(data, samples=None) if optional else data  # type: ignore[type-var]
    examples: Sequence[Example] = unsampled.examples()
    return examples


def _take_evenly(items: Sequence[Any], count: int) -> list[Any]:
    """Return `count` items at equal distances, beginning with the first."""
    return [items[number * len(items) // count] for number in range(count)]
