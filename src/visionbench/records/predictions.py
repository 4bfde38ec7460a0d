"""Write and read predictions.parquet. It has one row for each image; arrays are stored as lists.

Reading restores the shape and the dtype of arrays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from visionbench.core import Predictions
from visionbench.records import atomic

METADATA = b"visionbench"
"""The key in the file's metadata that holds the order of the columns, the dtypes of arrays, and the classes."""


def write(path: Path, predictions: Predictions) -> None:
    """Write the predictions to a file."""
    import pyarrow
    import pyarrow.parquet

    columns = {name: _column(entries) for name, entries in predictions.columns.items()}
    arrays = {name: entries[0] for name, entries in predictions.columns.items() if isinstance(entries[0], np.ndarray)}
    metadata = {
        "columns": list(columns),
        "dtypes": {name: str(array.dtype) for name, array in arrays.items()},
        "classes": list(predictions.classes),
    }
    table = pyarrow.table({"id": pyarrow.array(predictions.ids, pyarrow.string()), **columns})
    table = table.replace_schema_metadata({METADATA: json.dumps(metadata)})
    content = BytesIO()
    pyarrow.parquet.write_table(table, content, compression="zstd", write_page_checksum=True)
    atomic.write(path, content.getvalue())


def from_table(table: Any) -> Predictions:
    """Return the predictions of a table as they were written."""
    metadata = json.loads(table.schema.metadata[METADATA])
    columns = {name: _entries(table[name], metadata["dtypes"].get(name)) for name in metadata["columns"]}
    return Predictions(table["id"].to_pylist(), columns, metadata["classes"])


def _column(entries: Sequence[Any]) -> Any:
    """Return a column of Arrow. Arrays [n, …] may differ in n, and become lists of fixed-size lists."""
    import pyarrow

    if not isinstance(entries[0], np.ndarray):
        return pyarrow.array(entries)
    values = pyarrow.array(np.concatenate([array.ravel() for array in entries]))
    for size in reversed(entries[0].shape[1:]):
        values = pyarrow.FixedSizeListArray.from_arrays(values, size)
    ends = np.cumsum([0, *(len(array) for array in entries)])
    return pyarrow.LargeListArray.from_arrays(pyarrow.array(ends, pyarrow.int64()), values)


def _entries(column: Any, dtype: str | None) -> Sequence[Any]:
    """Return the entries of a column, converted to arrays of `dtype` if it was written from arrays."""
    if dtype is None:
        entries: list[Any] = column.to_pylist()
        return entries
    lists = column.combine_chunks()
    lists = lists.chunk(0) if hasattr(lists, "chunk") else lists
    values, shape = lists.values, []
    while hasattr(values.type, "list_size"):
        shape.append(values.type.list_size)
        values = values.values
    block = values.to_numpy(zero_copy_only=False).astype(dtype).reshape(-1, *shape)
    ends = lists.offsets.to_numpy()
    return [block[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]
