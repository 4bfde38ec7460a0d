"""Indices of mappings: search for those that agree with another one, or differ least, without a loop over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

MISSING = -1
"""The number of a name that a mapping does not have."""

Names = frozenset[str]
Values = tuple[str, ...]


class Agreement:
    """Mappings by number. Two mappings agree if no name has different values in both.

    The mappings are grouped by their names. For each group and each set of common names, the numbers are indexed by
    the values of these names. The time for a search therefore depends on the number of groups, which is small, and not
    on the number of mappings.
    """

    def __init__(self) -> None:
        self._groups: dict[Names, dict[int, Mapping[str, str]]] = {}
        self._indices: dict[Names, dict[Names, dict[Values, dict[int, None]]]] = {}

    def add(self, number: int, facts: Mapping[str, str]) -> None:
        """Add a mapping with a number that no other one has."""
        names = frozenset(facts)
        self._groups.setdefault(names, {})[number] = facts
        for common, index in self._indices.setdefault(names, {}).items():
            index.setdefault(_values(facts, common), {})[number] = None

    def remove(self, number: int, facts: Mapping[str, str]) -> None:
        """Remove a mapping that was added with this number."""
        names = frozenset(facts)
        del self._groups[names][number]
        for common, index in self._indices[names].items():
            del index[_values(facts, common)][number]

    def agreeing(self, facts: Mapping[str, str]) -> list[int]:
        """Return the numbers of all mappings that agree with this one, in increasing order."""
        names = frozenset(facts)
        numbers: list[int] = []
        for of_group, members in self._groups.items():
            if members:
                common = names & of_group
                if common not in self._indices[of_group]:
                    self._indices[of_group][common] = _index(members, common)
                numbers += self._indices[of_group][common].get(_values(facts, common), ())
        return sorted(numbers)


class Distances:
    """Mappings in order, and how many names have another value in a further mapping."""

    def __init__(self, known: Sequence[Mapping[str, str]]) -> None:
        self._codes: dict[str, dict[str, int]] = {}
        for facts in known:
            for name, value in facts.items():
                codes = self._codes.setdefault(name, {})
                codes.setdefault(value, len(codes))
        self._matrix = np.array([self._encode(facts) for facts in known]).reshape(len(known), len(self._codes))

    def counts(self, facts: Mapping[str, str]) -> np.ndarray:
        """Return for each mapping the number of names that both have with different values."""
        values = self._encode(facts)
        different: np.ndarray = (self._matrix != values) & (self._matrix != MISSING) & (values != MISSING)
        counts: np.ndarray = different.sum(axis=1)
        return counts

    def _encode(self, facts: Mapping[str, str]) -> np.ndarray:
        """Return a number for each name: equal numbers for equal values."""
        codes = (
            codes.get(facts[name], len(codes)) if name in facts else MISSING for name, codes in self._codes.items()
        )
        return np.fromiter(codes, np.int64, len(self._codes))


def _index(members: Mapping[int, Mapping[str, str]], names: Names) -> dict[Values, dict[int, None]]:
    index: dict[Values, dict[int, None]] = {}
    for number, facts in members.items():
        index.setdefault(_values(facts, names), {})[number] = None
    return index


def _values(facts: Mapping[str, str], names: Names) -> Values:
    """Return the values of these names, in the order of the names."""
    return tuple(map(facts.__getitem__, _ordered(names)))


@lru_cache(maxsize=256)
def _ordered(names: Names) -> tuple[str, ...]:
    return tuple(sorted(names))
