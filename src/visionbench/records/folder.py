"""The run's folder: what is measured is written here first, and everything else reads it back.

config.yaml        the composed configuration, without secrets
run.json           identity and conditions: what ran, on what, with which versions
results.jsonl      one row a case, appended and flushed as it comes
samples/*.parquet  the raw samples of each case
predictions.parquet  what the model said of each picture, and what is true of it
repeats/N/         with measure.repeats, such a folder for each process; the files above hold what they found together
worker.log         what libraries said while measuring
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visionbench.core import Case, CaseResult, Metrics, Predictions, Reason, Samples, Validity
from visionbench.registry import ConfigError

ABOUT = b"visionbench"
"""The key in the metadata of predictions.parquet: columns in order, dtypes of arrays, and classes."""
SCHEMA_VERSION = 1
"""Of run.json and of a row in results.jsonl; raised whenever a reader of the last version would go wrong."""


@dataclass(frozen=True)
class RunFolder:
    """One run's files."""

    path: Path

    @classmethod
    def create(cls, path: Path, config_yaml: str) -> RunFolder:
        """A new run's folder. Raises ConfigError where results already lie: they are not to be mixed or lost."""
        if (path / "results.jsonl").exists():
            raise ConfigError(
                f"hydra.run.dir={path}: there are results already", "give another folder, or move them away"
            )
        (path / "samples").mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").write_text(config_yaml, "utf-8")
        (path / "results.jsonl").touch()
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run's folder. Raises ConfigError where it is none."""
        if not (path / "results.jsonl").is_file():
            raise ConfigError(f"{path}: not a run's folder (it has no results.jsonl)")
        return cls(path)

    def repeat(self, number: int) -> RunFolder:
        """A new folder within this one for one of several processes, with the same configuration."""
        return RunFolder.create(self.path / "repeats" / str(number), (self.path / "config.yaml").read_text("utf-8"))

    @property
    def log(self) -> Path:
        """Where the measuring process's output goes."""
        return self.path / "worker.log"

    def write_conditions(self, conditions: Mapping[str, Any]) -> None:
        """Write run.json, whole or not at all."""
        draft = self.path / "run.json.draft"
        draft.write_text(json.dumps({"schema": SCHEMA_VERSION, **conditions}, indent=2, default=str) + "\n", "utf-8")
        draft.replace(self.path / "run.json")

    def conditions(self) -> dict[str, Any]:
        """What run.json holds."""
        conditions: dict[str, Any] = json.loads((self.path / "run.json").read_text("utf-8"))
        return conditions

    @property
    def predictions_file(self) -> Path:
        """Where the quality case's predictions go; not there where nothing was predicted."""
        return self.path / "predictions.parquet"

    def append(self, result: CaseResult, samples: Samples, predictions: Predictions | None = None) -> None:
        """Keep a case: its predictions and samples, then its row, on disk before this returns."""
        if predictions is not None:
            _write_predictions(self.predictions_file, predictions)
        if samples.series:
            self._write_samples(result.case.id, samples)
        row = {"schema": SCHEMA_VERSION, **asdict(result), "samples": {"missing": dict(samples.missing)}}
        row["validity"]["reasons"] = [str(reason) for reason in result.validity.reasons]
        row["samples"] |= {"flags": dict(samples.flags), "faults": dict(samples.faults)}
        with (self.path / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def config(self) -> dict[str, Any]:
        """What config.yaml holds."""
        import yaml

        config: dict[str, Any] = yaml.safe_load((self.path / "config.yaml").read_text("utf-8"))
        return config

    def results(self) -> list[CaseResult]:
        """The rows so far, in the order they were measured."""
        return [_result(row) for row in self._rows()]

    def samples(self, case_id: str) -> Samples:
        """A case's raw samples, as they were appended."""
        import pandas as pd

        notes = next(row["samples"] for row in self._rows() if row["case"]["id"] == case_id)
        path = self.path / "samples" / f"{case_id}.parquet"
        if not path.is_file():
            return Samples({}, notes["missing"], notes["flags"], notes.get("faults", {}))
        frame = pd.read_parquet(path)
        series = {
            str(name): part["value"].to_numpy() for name, part in frame.groupby("series", sort=False, observed=True)
        }
        return Samples(series, notes["missing"], notes["flags"], notes.get("faults", {}))

    def predictions(self) -> Predictions | None:
        """What the model said of each picture, as it was appended; None where nothing was predicted."""
        import pyarrow.parquet

        if not self.predictions_file.is_file():
            return None
        table = pyarrow.parquet.read_table(self.predictions_file)
        about = json.loads(table.schema.metadata[ABOUT])
        columns = {name: _entries(table[name], about["dtypes"].get(name)) for name in about["columns"]}
        return Predictions(table["id"].to_pylist(), columns, about["classes"])

    def picture_ids(self) -> list[str]:
        """The ids of the pictures that have a prediction, in the data set's order; none where nothing was predicted."""
        import pyarrow.parquet

        if not self.predictions_file.is_file():
            return []
        ids: list[str] = pyarrow.parquet.read_table(self.predictions_file, columns=["id"])["id"].to_pylist()
        return ids

    def _rows(self) -> Iterator[dict[str, Any]]:
        *lines, _ = (
            (self.path / "results.jsonl").read_text("utf-8").split("\n")
        )  # a last line without its end was cut short
        for line in lines:
            row = json.loads(line)
            if row["schema"] > SCHEMA_VERSION:
                raise ConfigError(
                    f"{self.path}: written by a newer visionbench (schema {row['schema']})", "update to read it"
                )
            yield row

    def _write_samples(self, case_id: str, samples: Samples) -> None:
        """One long table: series, index within it, value."""
        import pandas as pd

        lengths = [len(values) for values in samples.series.values()]
        frame = pd.DataFrame(
            {
                "series": pd.Categorical(np.repeat(list(samples.series), lengths), categories=list(samples.series)),
                "index": np.concatenate([np.arange(length) for length in lengths]),
                "value": np.concatenate([np.asarray(values, np.float64) for values in samples.series.values()]),
            }
        )
        frame.to_parquet(self.path / "samples" / f"{case_id}.parquet", index=False)


def _result(row: Mapping[str, Any]) -> CaseResult:
    case = row["case"]
    return CaseResult(
        case=Case(case["id"], case["batch_size"], tuple(case["stages"]), tuple(case["metrics"])),
        status=row["status"],
        reason=row["reason"],
        metrics=Metrics(row["metrics"]["values"], row["metrics"]["reasons"]),
        validity=Validity(row["validity"]["verdict"], tuple(map(Reason.parse, row["validity"]["reasons"]))),
        labels=row["labels"],
    )


def _write_predictions(path: Path, predictions: Predictions) -> None:
    """One row a picture; arrays as lists, whose shape and dtype come back on reading."""
    import pyarrow
    import pyarrow.parquet

    columns = {name: _column(entries) for name, entries in predictions.columns.items()}
    arrays = {name: entries[0] for name, entries in predictions.columns.items() if isinstance(entries[0], np.ndarray)}
    about = {
        "columns": list(columns),
        "dtypes": {name: str(array.dtype) for name, array in arrays.items()},
        "classes": list(predictions.classes),
    }
    table = pyarrow.table({"id": pyarrow.array(predictions.ids, pyarrow.string()), **columns})
    pyarrow.parquet.write_table(table.replace_schema_metadata({ABOUT: json.dumps(about)}), path, compression="zstd")


def _column(entries: Sequence[Any]) -> Any:
    """A column of Arrow: of arrays [n, …] that differ in n alone, lists of fixed-size lists around one block."""
    import pyarrow

    if not isinstance(entries[0], np.ndarray):
        return pyarrow.array(entries)
    values = pyarrow.array(np.concatenate([array.ravel() for array in entries]))
    for size in reversed(entries[0].shape[1:]):
        values = pyarrow.FixedSizeListArray.from_arrays(values, size)
    ends = np.cumsum([0, *(len(array) for array in entries)])
    return pyarrow.LargeListArray.from_arrays(pyarrow.array(ends, pyarrow.int64()), values)


def _entries(column: Any, dtype: str | None) -> Sequence[Any]:
    """The entries of a column; arrays again where it was made of arrays."""
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
