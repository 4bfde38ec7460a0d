"""Read a Parquet file with embedded images, as the datasets library writes it: a struct of `bytes` and `path`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError, first_line
from visionbench.datafiles.extraction import (
    MIB,
    MOST_IMAGE_BYTES,
    ImageWriter,
    Row,
    most_expanded_bytes,
)
from visionbench.datafiles.text_file import is_lfs_pointer

ROWS_AT_ONCE = 32
FEATURES = "huggingface"
"""The key of the schema's metadata in which the datasets library stores the types of the columns, as JSON."""


@dataclass(frozen=True)
class ParquetSchema:
    """The columns of a Parquet file: those with images, those with texts or numbers, and the names of the classes of
    the columns with labels."""

    images: tuple[str, ...]
    values: tuple[str, ...]
    class_names: Mapping[str, tuple[str, ...]]


def read_schema(path: Path) -> ParquetSchema:
    """Return the columns of a Parquet file. Raises ConfigError if it cannot be read."""
    import pyarrow.parquet as pq
    from pyarrow import types

    if is_lfs_pointer(path):
        raise ConfigError(f"{path}: a Git LFS pointer, not the file itself", "run 'git lfs pull' in its repository")
    with _name_errors(path):
        schema = pq.read_schema(path)
    images = [item.name for item in schema if _holds_images(item.type)]
    values = [item.name for item in schema if _holds_values(item.type)]
    stored = (schema.metadata or {}).get(FEATURES.encode())
    is_text = {item.name for item in schema if types.is_string(item.type) or types.is_large_string(item.type)}
    class_names = {column: names for column, names in _read_class_names(stored).items() if column not in is_text}
    return ParquetSchema(tuple(images), tuple(values), class_names)


def read_rows(path: Path, writer: ImageWriter, image: str, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a Parquet file, and write their images.

    A row has `image` (the path of the written image, or None), `path` (the stored path, or None), `values` (by column)
    and `problems`. Raises ConfigError, with the number of the row, if the file is damaged or too large.
    """
    import pyarrow.parquet as pq

    row_number, written, most = 0, 0, most_expanded_bytes(path)
    with _name_errors(path, lambda: f", after row {row_number}"), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=[image, *columns]):
            for values in batch.to_pylist():
                row = _make_row(values, image, writer, columns)
                written += row.pop("bytes")
                if written > most:
                    raise ConfigError(
                        f"{path}, row {row_number}: it expands to more than {most / MIB:,.0f} MiB, from "
                        f"{path.stat().st_size / MIB:,.1f} MiB: a decompression bomb?",
                        "save it without compression if it is correct",
                    )
                row_number += 1
                yield row


def _make_row(values: Mapping[str, Any], image: str, writer: ImageWriter, columns: Sequence[str]) -> Row:
    cell = values[image]
    if isinstance(cell, bytes):
        cell = {"bytes": cell}
    content, stored = (cell or {}).get("bytes"), (cell or {}).get("path")
    problems = []
    if content is not None and len(content) > MOST_IMAGE_BYTES:
        problems.append(f"its image has {len(content) / MIB:,.0f} MiB, more than {MOST_IMAGE_BYTES / MIB:,.0f} MiB")
        content = None
    elif not content and not stored:
        problems.append("no image")
    return {
        "image": writer.add(content, stored or "") if content else None,
        "path": stored,
        "values": {name: values[name] for name in columns},
        "problems": problems,
        "bytes": len(content or b""),
    }


def _holds_images(kind: Any) -> bool:
    """Return whether a column has images: bytes, or a struct with the bytes and the path of each image."""
    from pyarrow import types

    if types.is_struct(kind):
        names = {kind.field(index).name for index in range(kind.num_fields)}
        return "bytes" in names and types.is_binary(kind.field("bytes").type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _holds_values(kind: Any) -> bool:
    """Return whether a column has texts, whole numbers, or lists of texts."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
        return bool(types.is_string(kind) or types.is_large_string(kind))
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind))


def _read_class_names(stored: bytes | None) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes of each column of the type ClassLabel. Metadata of another form have none."""
    try:
        features = json.loads(stored or b"{}")["info"]["features"]
        return {
            column: tuple(str(name) for name in feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


@contextmanager
def _name_errors(path: Path, where: Any = lambda: "") -> Iterator[None]:
    """Convert errors of pyarrow to ConfigError. `where` returns the place in the file at the time of the error."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError(
            f"{path}{where()}: not a Parquet file that can be read ({first_line(error).rstrip('.')})",
            "download or save the complete file again",
        ) from None
