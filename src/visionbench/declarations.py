"""The declarations of a run's metrics: collect them from metric groups, store them in run.json, find them by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from functools import cached_property
from itertools import product
from typing import Any

from visionbench.core import (
    ACROSS_PROCESSES,
    BETWEEN_LOADS,
    OVER_PICTURES,
    OVER_QUERIES,
    WITHIN_PROCESS,
    DeclaresMetrics,
    MetricDeclaration,
    interval_ends,
    interval_half_width,
)

VARIABLE = re.compile(r"\{([^{}]*)\}|<(\w+)>")
"""A variable part of a family's name: `{a,b}` or `<k>`."""
PLACEHOLDERS = {"k": r"(\d+)"}
"""The pattern of a placeholder. A placeholder that is not listed here matches a word."""
WORD = r"([a-z][a-z0-9_]*?)"
OMITTED = ("group",)
"""Fields that are not stored, because the key of the surrounding object gives their value."""


@dataclass(frozen=True)
class Declarations:
    """Declarations in their order, each with its group."""

    listed: tuple[MetricDeclaration, ...] = ()

    @classmethod
    def collect(cls, groups: Mapping[str, object]) -> Declarations:
        """Collect the declarations of metric groups by name; a group that declares nothing contributes nothing."""
        return cls(
            tuple(
                replace(declaration, group=name)
                for name, group in groups.items()
                if isinstance(group, DeclaresMetrics)
                for declaration in group.declarations
            )
        )

    def followed_by(self, group: str, declarations: Sequence[MetricDeclaration]) -> Declarations:
        """Return these declarations and those of one more group."""
        return Declarations((*self.listed, *(replace(declaration, group=group) for declaration in declarations)))

    @classmethod
    def from_json(cls, content: Any) -> Declarations:
        """Return the declarations that `to_json` returned as JSON. An entry that cannot be read is left out."""
        groups = content if isinstance(content, Mapping) else {}
        entries = [(str(name), entry) for name, group in groups.items() if isinstance(group, list) for entry in group]
        declarations = (_from_json(entry, name) for name, entry in entries)
        return cls(tuple(declaration for declaration in declarations if declaration is not None))

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """Return the declarations by group, with the types of JSON. Fields with their default value are left out."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for declaration in self.listed:
            groups.setdefault(declaration.group, []).append(_to_json(declaration))
        return groups

    def find(self, metric: str) -> MetricDeclaration | None:
        """Return the declaration of a metric by its name, or None if it has none.

        For a member of a family, the name and the title are those of the member. The declarations of the ends and
        widths of intervals are derived from the declaration of their metric.
        """
        if metric in self._exact:
            return self._exact[metric]
        for pattern, declaration, base in self._patterns:
            if match := pattern.fullmatch(metric):
                return _declare_member(declaration, metric, match.groups(), base)
        return None

    def members(self) -> Iterator[MetricDeclaration]:
        """Yield a declaration for every metric whose name has no placeholder, except interval ends and widths."""
        yield from (declaration for declaration in self._exact.values() if not declaration.part_of)

    @cached_property
    def _exact(self) -> dict[str, MetricDeclaration]:
        members: dict[str, MetricDeclaration] = {}
        for declaration, base in self._with_intervals():
            if "<" not in declaration.name:
                for name, parts in expand(declaration.name):
                    members.setdefault(name, _declare_member(declaration, name, parts, base))
        return members

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], MetricDeclaration, str]]:
        return [
            (pattern(declaration.name), declaration, base)
            for declaration, base in self._with_intervals()
            if "<" in declaration.name
        ]

    def _with_intervals(self) -> Iterator[tuple[MetricDeclaration, str]]:
        """Yield every declaration with an empty name, then those of the intervals with the name of their metric."""
        yield from ((declaration, "") for declaration in self.listed)
        for declaration in self.listed:
            yield from ((part, declaration.name) for part in interval_parts(declaration))


def interval_parts(metric: MetricDeclaration) -> Iterator[MetricDeclaration]:
    """Yield the declarations of the ends and widths of a metric's intervals."""
    base = MetricDeclaration(metric.name, metric.unit, kind=metric.kind, gather=metric.gather, group=metric.group)
    for interval in metric.intervals:
        infix = interval if interval in (WITHIN_PROCESS, ACROSS_PROCESSES) else ""
        yield from (replace(base, name=end, meaning=INTERVALS[interval]) for end in interval_ends(metric.name, infix))
        if interval == ACROSS_PROCESSES:
            meaning = "Half of that interval ÷ its centre"
            yield replace(base, name=interval_half_width(metric.name), unit="fraction", meaning=meaning)


INTERVALS = {
    OVER_PICTURES: "Ends of the 95 % interval over images",
    OVER_QUERIES: "Ends of the 95 % interval over queries, which are correlated",
    BETWEEN_LOADS: "Largest load that is within the bound, and smallest load that is not",
    WITHIN_PROCESS: "Ends of the 95 % interval within the process",
    ACROSS_PROCESSES: "With repeats: ends of the 95 % interval across processes",
}


def expand(name: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return every name of a family without placeholders, with its variable parts: `a_{x,y}` gives `a_x` and `a_y`."""
    pieces = re.split(r"\{([^{}]*)\}", name)
    choices = [piece.split(",") for piece in pieces[1::2]]
    return [
        ("".join(text for pair in zip(pieces[::2], (*parts, ""), strict=True) for text in pair), parts)
        for parts in product(*choices)
    ]


def pattern(name: str) -> re.Pattern[str]:
    """Return a pattern that matches every name of a family, with a group for each variable part."""
    text, end = "", 0
    for match in VARIABLE.finditer(name):
        alternatives, placeholder = match.groups()
        text += re.escape(name[end : match.start()])
        if placeholder:
            text += PLACEHOLDERS.get(placeholder, WORD)
        else:
            text += f"({'|'.join(map(re.escape, alternatives.split(',')))})"
        end = match.end()
    return re.compile(text + re.escape(name[end:]))


def _declare_member(family: MetricDeclaration, name: str, parts: Sequence[str], base: str) -> MetricDeclaration:
    """Return the declaration of one member of a family. `base` is the metric's family if `family` is an interval's."""
    if base:
        values = iter(parts)
        base = VARIABLE.sub(lambda _: next(values), base)
    translations = {language: title.format(*parts) for language, title in family.translations.items()}
    return replace(family, name=name, title=family.title.format(*parts), translations=translations, part_of=base)


def _default(item: Field[Any]) -> Any:
    """Return the default value of a field, or an empty text for a field without a default."""
    if item.default_factory is not MISSING:
        return item.default_factory()
    return "" if item.default is MISSING else item.default


def _to_json(declaration: MetricDeclaration) -> dict[str, Any]:
    values = {
        item.name: (getattr(declaration, item.name), _default(item))
        for item in fields(declaration)
        if item.name not in OMITTED
    }
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, (value, default) in values.items()
        if value != default
    }


def _from_json(entry: Any, group: str) -> MetricDeclaration | None:
    """Return the declaration of an entry, or None if it has a wrong type, value or title."""
    if not isinstance(entry, Mapping):
        return None
    values: dict[str, Any] = {"group": group}
    for item in fields(MetricDeclaration):
        if item.name in entry and item.name not in OMITTED:
            value = entry[item.name]
            values[item.name] = tuple(value) if isinstance(value, list) else value
            if type(values[item.name]) is not type(_default(item)):
                return None
    try:
        declaration = MetricDeclaration(**values)
        _declare_member(declaration, declaration.name, VARIABLE.findall(declaration.name), "")
    except (TypeError, ValueError, IndexError, KeyError):
        return None
    return declaration
