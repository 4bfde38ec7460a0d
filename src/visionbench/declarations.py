"""The declarations of a run's metrics: collected from metric groups, written to run.json, found by a metric's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from functools import cached_property
from itertools import product
from typing import Any

from visionbench.core import (
    ACROSS_PROCESSES,
    OVER_PICTURES,
    WITHIN_PROCESS,
    DeclaresMetrics,
    MetricDeclaration,
    interval_ends,
    interval_half_width,
)

VARIABLE = re.compile(r"\{([^{}]*)\}|<(\w+)>")
"""A variable part of a family's name: `{a,b}` or `<k>`."""
PLACEHOLDERS = {"k": r"(\d+)"}
"""What a placeholder matches; any other matches a word."""
WORD = r"([a-z][a-z0-9_]*?)"
OMITTED = ("group",)
"""Fields that are not written, because their value is the key above."""


@dataclass(frozen=True)
class Declarations:
    """Declarations in their order, each with its group."""

    listed: tuple[MetricDeclaration, ...] = ()

    @classmethod
    def collect(cls, groups: Mapping[str, object]) -> Declarations:
        """Collect the declarations of metric groups by name; a group that declares nothing contributes nothing."""
        return cls(
            tuple(
                replace(one, group=name)
                for name, group in groups.items()
                if isinstance(group, DeclaresMetrics)
                for one in group.declarations
            )
        )

    def followed_by(self, group: str, declarations: Sequence[MetricDeclaration]) -> Declarations:
        """Return these declarations and those of one more group."""
        return Declarations((*self.listed, *(replace(one, group=group) for one in declarations)))

    @classmethod
    def read(cls, written: Any) -> Declarations:
        """Read what `written` returned. An entry that cannot be read is left out: its metric counts as undeclared."""
        groups = written if isinstance(written, Mapping) else {}
        entries = [(str(name), entry) for name, group in groups.items() if isinstance(group, list) for entry in group]
        return cls(tuple(one for name, entry in entries if (one := _read(entry, name)) is not None))

    def written(self) -> dict[str, list[dict[str, Any]]]:
        """Return the declarations by group as JSON holds them; fields that have their default value are left out."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for one in self.listed:
            groups.setdefault(one.group, []).append(_written(one))
        return groups

    def find(self, metric: str) -> MetricDeclaration | None:
        """Return the declaration of a metric by its name, or None if it has none.

        For a member of a family, name and title are those of the member. The ends and widths of intervals have
        declarations that follow from that of the metric.
        """
        if metric in self._exact:
            return self._exact[metric]
        for pattern, one, base in self._patterns:
            if match := pattern.fullmatch(metric):
                return _member(one, metric, match.groups(), base)
        return None

    def members(self) -> Iterator[MetricDeclaration]:
        """Yield a declaration for every metric whose name is known without results, without interval ends."""
        yield from (one for one in self._exact.values() if not one.part_of)

    @cached_property
    def _exact(self) -> dict[str, MetricDeclaration]:
        members: dict[str, MetricDeclaration] = {}
        for one, base in self._with_intervals():
            if "<" not in one.name:
                for name, parts in expand(one.name):
                    members.setdefault(name, _member(one, name, parts, base))
        return members

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], MetricDeclaration, str]]:
        return [(pattern(one.name), one, base) for one, base in self._with_intervals() if "<" in one.name]

    def _with_intervals(self) -> Iterator[tuple[MetricDeclaration, str]]:
        """Every declaration with an empty name, then those of its intervals with the name of their metric."""
        yield from ((one, "") for one in self.listed)
        for one in self.listed:
            yield from ((part, one.name) for part in interval_parts(one))


def interval_parts(one: MetricDeclaration) -> Iterator[MetricDeclaration]:
    """Yield the declarations of a metric's interval ends and widths."""
    bare = MetricDeclaration(one.name, one.unit, kind=one.kind, gather=one.gather, group=one.group)
    for interval in one.intervals:
        infix = "" if interval == OVER_PICTURES else interval
        yield from (replace(bare, name=end, meaning=INTERVALS[interval]) for end in interval_ends(one.name, infix))
        if interval == ACROSS_PROCESSES:
            meaning = "Half of that interval ÷ its centre"
            yield replace(bare, name=interval_half_width(one.name), unit="fraction", meaning=meaning)


INTERVALS = {
    OVER_PICTURES: "Ends of the 95 % interval over images",
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


def _member(one: MetricDeclaration, name: str, parts: Sequence[str], base: str) -> MetricDeclaration:
    """The declaration of one member of a family; `base` is the family that an interval's end belongs to."""
    if base:
        values = iter(parts)
        base = VARIABLE.sub(lambda _: next(values), base)
    translations = {language: title.format(*parts) for language, title in one.translations.items()}
    return replace(one, name=name, title=one.title.format(*parts), translations=translations, part_of=base)


def _default(of: Field[Any]) -> Any:
    """The default value of a field; an empty text for a field that has none."""
    if of.default_factory is not MISSING:
        return of.default_factory()
    return "" if of.default is MISSING else of.default


def _written(one: MetricDeclaration) -> dict[str, Any]:
    values = {of.name: (getattr(one, of.name), _default(of)) for of in fields(one) if of.name not in OMITTED}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, (value, default) in values.items()
        if value != default
    }


def _read(entry: Any, group: str) -> MetricDeclaration | None:
    if not isinstance(entry, Mapping):
        return None
    values: dict[str, Any] = {"group": group}
    for of in fields(MetricDeclaration):
        if of.name in entry and of.name not in OMITTED:
            value = entry[of.name]
            values[of.name] = tuple(value) if isinstance(value, list) else value
            if type(values[of.name]) is not type(_default(of)):
                return None
    try:
        one = MetricDeclaration(**values)
        _member(one, one.name, VARIABLE.findall(one.name), "")
    except (TypeError, ValueError, IndexError, KeyError):
        return None
    return one
