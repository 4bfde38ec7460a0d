"""Read and write a record that has a separate JSON file in a folder, such as sweep.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from visionbench.records import atomic, reading, typed_json
from visionbench.records.record import refuse_newer

T = TypeVar("T")


def read(kind: type[T], folder: Path, name: str, version: int) -> T | None:
    """Read the record of this kind in a folder, or return None if the file does not exist.

    Raises ConfigError that names the folder and the file if it cannot be read, or if its schema is above `version`.
    """
    path = folder / name
    if not path.exists():
        return None
    place = f"{folder}: {name}"
    content = reading.json_file(path, place)
    if isinstance(content, dict):
        refuse_newer(content.get("schema"), place, version)
    return typed_json.read(kind, content, place)


def write(record: Any, folder: Path, name: str) -> None:
    """Replace the record in a folder. Raises ConfigError that names a value whose type JSON does not have."""
    atomic.write(folder / name, json.dumps(typed_json.write(record, name), ensure_ascii=False) + "\n")
