"""The ranges of numbers in a configuration. Each range is declared beside its key, in the metadata of the field."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Any

from visionbench.core import ConfigError

RANGE = "range"
"""The key of a field's metadata that holds its range."""
WEEK_SECONDS = 7 * 24 * 3600
MOST_CALLS = 10**9
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Range:
    """The valid values of a number: `low` to `high`. An open end is not a valid value itself."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False
    remedy: str = ""

    def check(self, key: str, value: float) -> None:
        """Raise ConfigError if the value is not in the range."""
        if math.isnan(value):
            raise ConfigError(f"{key}=nan: not a number", f"give a number {self}")
        too_low = value <= self.low if self.open_low else value < self.low
        too_high = value >= self.high if self.open_high else value > self.high
        if too_low or too_high:
            raise ConfigError(f"{key}={value}: {self._bound(too_low)}", self.remedy)

    def __str__(self) -> str:
        return f"from {_text(self.low)} to {_text(self.high)}"

    def _bound(self, too_low: bool) -> str:
        if self.open_low and self.open_high:
            return f"must be between {_text(self.low)} and {_text(self.high)}"
        if too_low:
            return f"must be {'more than' if self.open_low else 'at least'} {_text(self.low)}"
        return f"must be {'less than' if self.open_high else 'at most'} {_text(self.high)}"


def _text(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def limits(low: float, high: float, **options: Any) -> dict[str, Range]:
    """Return the metadata of a field with a range. `options` are those of `Range`."""
    return {RANGE: Range(low, high, **options)}


SECONDS = limits(0, WEEK_SECONDS)
CALLS = limits(1, MOST_CALLS)
SEED = limits(0, LARGEST_SEED)


def check(section: Any, prefix: str = "") -> None:
    """Raise ConfigError for the first number that is outside its range, with its dotted key.

    `section` is a dataclass. Its fields are numbers, lists or dictionaries of numbers, or dataclasses.
    """
    for item, key, value in _entries(section, prefix):
        if (valid := item.metadata.get(RANGE)) is not None and value is not None:
            valid.check(key, value)


def _entries(section: Any, prefix: str) -> Iterator[tuple[Field[Any], str, Any]]:
    """Yield the field, the key and the value of each entry of a section and of the sections in it."""
    for item in fields(section):
        key, value = f"{prefix}{item.name}", getattr(section, item.name)
        if is_dataclass(value):
            yield from _entries(value, f"{key}.")
        elif isinstance(value, Mapping):
            yield from ((item, f"{key}.{name}", entry) for name, entry in value.items())
        elif isinstance(value, list):
            yield from ((item, f"{key}[{index}]", entry) for index, entry in enumerate(value))
        else:
            yield item, key, value
