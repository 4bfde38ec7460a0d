"""Runs as one table for pandas, with one row per case, and its three file formats: CSV, JSON and Parquet.

The columns are described in docs/results.md.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench.core import OK, CaseResult
from visionbench.records.record import VERSIONS
from visionbench.results.archive import Run

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
"""The version of the table. It increases if an identity column is renamed, removed, or changes its type or meaning."""
ABOUT = b"visionbench"
"""The key in a Parquet file's metadata: the schema and the version of visionbench that wrote it."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The beginnings of texts that spreadsheets run as formulas."""
STRING, INTEGER, TIME = "string", "Int64", "datetime64[us, UTC]"
TYPES = {
    **dict.fromkeys(("uid", "sweep", "run", "run_status", "model", "task", "family"), STRING),
    **dict.fromkeys(("weights", "checkpoint", "revision", "device", "device_name", "driver", "cuda"), STRING),
    **dict.fromkeys(("precision", "runtime", "decoder", "preprocess", "dtype"), STRING),
    **dict.fromkeys(("threads", "batch_size"), INTEGER),
    **dict.fromkeys(("case", "status", "reason", "validity", "validity_reasons", "protocol"), STRING),
    **dict.fromkeys(("processes", "distinct_inputs"), INTEGER),
    **dict.fromkeys(("data", "data_digest"), STRING),
    "started_at": TIME,
    **dict.fromkeys(("git_commit", "host", "host_system", "host_cpu"), STRING),
    **dict.fromkeys(("host_cpu_cores", "host_memory_mib"), INTEGER),
    **{f"version_{name.replace('-', '_')}": STRING for name in VERSIONS},
    "reasons": STRING,
}
"""The columns of every table, and their types in pandas. Metrics are float64 columns before `reasons`."""


def cases(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per case, with the columns of `TYPES` and one column per metric; NaN means null."""
    import pandas as pd

    pairs = [(run.record.facts(), row) for run in runs for row in run.results]
    identities = [{**facts, **_case_columns(row)} for facts, row in pairs]
    metrics = dict.fromkeys(name for _, row in pairs for name in row.metrics.values)
    columns: dict[str, Any] = {name: [one.get(name) for one in identities] for name in TYPES}
    columns = {name: pd.array(values, dtype=TYPES[name]) for name, values in _parse_times(columns)}
    reasons = columns.pop("reasons")
    for name in metrics:
        columns[name] = np.array([row.metrics.values.get(name) for _, row in pairs], np.float64)
    return pd.DataFrame({**columns, "reasons": reasons})


def csv(frame: pd.DataFrame) -> str:
    """Return the table as CSV with a first column `schema`; times are ISO 8601, null is empty.

    A text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    numbered = _with_iso_times(frame)
    for name in [name for name, kind in TYPES.items() if kind == STRING]:
        formula = numbered[name].str.startswith(FORMULA).fillna(False)
        if formula.any():
            numbered[name] = numbered[name].mask(formula, "'" + numbered[name])
    numbered.insert(0, "schema", SCHEMA)
    return str(numbered.to_csv(index=False, lineterminator="\n"))


def json_text(frame: pd.DataFrame) -> str:
    """Return `{"schema": 1, "cases": [{column: value}]}` with one case per line; missing values are null."""
    columns = {str(name): _json_values(values) for name, values in _with_iso_times(frame).items()}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return f'{{"schema": {SCHEMA}, "cases": [\n{lines}\n]}}\n'


def parquet(frame: pd.DataFrame, version: str) -> bytes:
    """Return the table as a Parquet file, with schema and version in its metadata under `visionbench`."""
    import pyarrow
    import pyarrow.parquet

    with warnings.catch_warnings():  # pyarrow accesses times in a way that pandas 3.1 deprecates
        warnings.filterwarnings("ignore", "Series.values returning an ndarray", DeprecationWarning)
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    about = {ABOUT: json.dumps({"schema": SCHEMA, "version": version})}
    file = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **about}), file)
    return bytes(file.getvalue())


def _case_columns(row: CaseResult) -> dict[str, Any]:
    """Return the columns of one case; validity, processes and distinct inputs are null without numbers."""
    measured = row.status == OK
    validity_reasons = json.dumps([str(reason) for reason in row.validity.reasons], ensure_ascii=False)
    return {
        "batch_size": row.case.batch_size,
        "case": row.case.id,
        "status": row.status,
        "reason": row.reason,
        "validity": row.validity.verdict if measured else None,
        "validity_reasons": validity_reasons if measured else None,
        "processes": int(row.labels.get("processes", 1)) if measured else None,
        "distinct_inputs": int(row.labels["distinct_inputs"]) if "distinct_inputs" in row.labels else None,
        "reasons": json.dumps(dict(row.metrics.reasons), ensure_ascii=False) if row.metrics.reasons else None,
    }


def _parse_times(columns: Mapping[str, list[Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the columns with parsed times."""
    import pandas as pd

    for name, values in columns.items():
        yield name, pd.to_datetime(values, utc=True, format="ISO8601") if TYPES[name] == TIME else values


def _with_iso_times(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with times as ISO 8601."""
    times = [name for name, kind in TYPES.items() if kind == TIME]
    return frame.assign(**{name: [time.isoformat(timespec="microseconds") for time in frame[name]] for name in times})


def _json_values(column: pd.Series[Any]) -> list[Any]:
    """Return the values for JSON: null instead of NaN."""
    values: list[Any] = column.astype(object).where(column.notna(), None).tolist()
    return values
