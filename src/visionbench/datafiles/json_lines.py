"""Read lines of JSON strictly: a line that is not JSON is returned with its problem."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError
from visionbench.datafiles.json_file import describe_type


@dataclass(frozen=True)
class JsonLine:
    """One line: its number from 1, and its value or its problem."""

    number: int
    value: Any
    problem: str | None = None


def read_json_lines(path: Path, lines: Sequence[str]) -> Iterator[JsonLine]:
    """Yield the lines that are not empty. An object with a key twice, and a constant such as NaN, are problems.

    Raises ConfigError if the file is a single list.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_make_unique, parse_constant=_refuse_constant)
        except ValueError as error:
            yield JsonLine(number, None, f"not JSON ({error})")
            continue
        except RecursionError:
            yield JsonLine(number, None, "nested too deeply")
            continue
        if isinstance(value, list) and len(lines) == 1:
            raise ConfigError(f"{path}, line 1: a single list", "write each of its objects on its own line")
        yield JsonLine(number, value)


def describe_value(value: Any) -> str:
    """Return a value that should be a text in words: `empty`, `the number 7`, `a list`."""
    if isinstance(value, str):
        return "empty"
    return f"the number {value}" if type(value) in (int, float) else describe_type(value)


def _make_unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    row: dict[str, Any] = {}
    for key, value in pairs:
        if key in row:
            raise ValueError(f"the key '{key}' is listed twice")
        row[key] = value
    return row


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")
