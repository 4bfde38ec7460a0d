"""Read a metadata file of the datasets library, `metadata.csv` or `metadata.jsonl`, row by row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError
from visionbench.datafiles.captions import has_surrogate
from visionbench.datafiles.text_file import read_text, split_lines

FILES = ("metadata.csv", "metadata.jsonl")


@dataclass(frozen=True)
class MetadataRow:
    """One row: its line, and the values of its columns. A row with a problem may have no values."""

    line: int
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


def read_metadata(path: Path) -> list[MetadataRow]:
    """Return the rows of a metadata file. Raises ConfigError if the file as a whole cannot be read.

    An empty cell of a table is missing. A row with another number of cells than the heading, and a line that is not a
    JSON object with unique keys, has a problem.
    """
    text = read_text(path)
    rows = list(_read_json_lines(text) if path.suffix == ".jsonl" else _read_table(path, text))
    if not rows:
        raise ConfigError(f"{path}: it has no row", "give another file")
    if all(row.problem for row in rows):
        raise ConfigError(
            f"{path}, line {rows[0].line}: {rows[0].problem}", f"none of its {len(rows)} rows can be read"
        )
    return rows


def _read_table(path: Path, text: str) -> Iterator[MetadataRow]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        heading = next((cells for cells in reader if cells), [])
        if repeated := next((name for name in heading if heading.count(name) > 1), None):
            raise ConfigError(f"{path}, line 1: the column '{repeated}' is listed twice", "rename one")
        for cells in reader:
            if not cells:
                continue
            if len(cells) == len(heading):
                values = {name: cell if cell.strip() else None for name, cell in zip(heading, cells, strict=True)}
                yield MetadataRow(reader.line_num, values)
            else:
                problem = f"{len(cells)} cells, but the heading has {len(heading)}"
                yield MetadataRow(reader.line_num, problem=problem)
    except csv.Error as error:
        raise ConfigError(
            f"{path}, line {reader.line_num}: not a table with commas ({error})", "put cells with commas in quotes"
        ) from None


def _read_json_lines(text: str) -> Iterator[MetadataRow]:
    for number, line in enumerate(split_lines(text), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_make_unique, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            yield MetadataRow(number, problem=f"not JSON ({error})")
            continue
        if not isinstance(value, dict):
            yield MetadataRow(number, problem="not a JSON object")
        elif any(isinstance(item, str) and has_surrogate(item) for item in value.values()):
            yield MetadataRow(number, problem="half of a character (a lone surrogate, \\ud800 to \\udfff)")
        else:
            yield MetadataRow(number, value)


def _make_unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' is listed twice")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")
