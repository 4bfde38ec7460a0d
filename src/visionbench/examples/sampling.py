"""A part of a data set's pictures, and how many there are without that part being taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import zip_longest
from typing import Any

from visionbench.core import DataSet, Example


def spread(examples: Sequence[Example], count: int | None) -> list[Example]:
    """So many examples, as evenly as can be from all labels, and evenly over the pictures of each; in their order.

    Without labels the first so many. Nothing is drawn at random: the same folder gives the same sample.
    """
    if count is None or count >= len(examples):
        return list(examples)
    labels: dict[str | None, list[int]] = {}
    for at, example in enumerate(examples):
        labels.setdefault(example.label, []).append(at)
    if set(labels) == {None}:
        return list(examples[:count])
    groups = _evenly(list(labels.values()), count) if count < len(labels) else list(labels.values())
    turns = [group for turn in zip_longest(*(range(len(of_one)) for of_one in groups)) for group in _present(turn)]
    quotas = [turns[:count].count(group) for group in range(len(groups))]
    chosen = [at for of_one, quota in zip(groups, quotas, strict=True) for at in _evenly(of_one, quota)]
    return [examples[at] for at in sorted(chosen)]


def whole(data: DataSet) -> Sequence[Example]:
    """The examples that a data set has without its option `samples`, where that can be left out."""
    if getattr(data, "samples", None) is None or not is_dataclass(data):
        return data.examples()
    optional = any(option.name == "samples" and option.default is None for option in fields(data))
    found: Any = replace(data, samples=None) if optional else data  # type: ignore[type-var]
    examples: Sequence[Example] = found.examples()
    return examples


def _present(turn: Sequence[int | None]) -> list[int]:
    return [group for group, at in enumerate(turn) if at is not None]


def _evenly(items: Sequence[Any], count: int) -> list[Any]:
    """So many of the items, the first one and then at equal distances."""
    return [items[at * len(items) // count] for at in range(count)]
