"""The folder of a run. Results are written here first, and every reader reads them from here.

config.yaml        the composed configuration, without secrets
run.json           the record: model, device, data, versions and conditions of the run
results.jsonl      one row for each case, appended and flushed when the case ends
samples/*.parquet  the raw samples of each case
predictions.parquet  the model's predictions and the matching truths, one row for each image
repeats/N/         with measure.repeats, a run's folder for each process; the files above hold the gathered results
worker.log         the output of the measuring process
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visionbench.core import Case, CaseResult, ConfigError, Predictions, Samples
from visionbench.records import atomic, predictions, reading, typed_json
from visionbench.records.record import SCHEMA_VERSION, RunRecord, refuse_newer


@dataclass(frozen=True)
class SampleNotes:
    """The reasons, flags and faults of a case's samples. They are in the case's row; the Parquet file holds series."""

    missing: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @classmethod
    def create(cls, path: Path, config_yaml: str) -> RunFolder:
        """Create a run's folder. Raises ConfigError if it has results already, because they would be mixed or lost."""
        if (path / "results.jsonl").exists():
            raise ConfigError(
                f"hydra.run.dir={path}: there are results already", "give another folder, or move the results"
            )
        return cls.rejoin(path, config_yaml)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the folder of an existing run. Raises ConfigError if it is not one."""
        if not (path / "results.jsonl").is_file():
            raise ConfigError(f"{path}: not a run's folder (it has no results.jsonl)", "give the folder of a run")
        return cls(path)

    @classmethod
    def rejoin(cls, path: Path, config_yaml: str) -> RunFolder:
        """Return the folder of an existing run for a further session, with the configuration of that session.

        The folder is created if it does not exist. Its rows are kept.
        """
        (path / "samples").mkdir(parents=True, exist_ok=True)
        atomic.write(path / "config.yaml", config_yaml)
        (path / "results.jsonl").touch()
        return cls(path)

    def repeat(self, number: int) -> RunFolder:
        """Create the folder of one of several processes inside this folder, with the same configuration."""
        return RunFolder.create(self.path / "repeats" / str(number), (self.path / "config.yaml").read_text("utf-8"))

    def rejoin_repeat(self, number: int) -> RunFolder:
        """Return the folder of one of several processes for a further session. It is created if it does not exist."""
        return RunFolder.rejoin(self.path / "repeats" / str(number), (self.path / "config.yaml").read_text("utf-8"))

    @property
    def log(self) -> Path:
        """The file that receives the output of the measuring process."""
        return self.path / "worker.log"

    @property
    def predictions_file(self) -> Path:
        """The file of the quality case's predictions. It does not exist if there are none."""
        return self.path / "predictions.parquet"

    # ------------------------------------------------------------------------------------------------------ the record
    def write_record(self, record: RunRecord) -> None:
        """Replace run.json atomically. Raises ConfigError that names the key of a value that JSON cannot hold."""
        text = json.dumps(record.to_json(), indent=2) + "\n"
        atomic.write(self.path / "run.json", text)

    def record(self) -> RunRecord:
        """Read run.json. Raises ConfigError that names the folder, and a key that is missing or has a wrong type."""
        place = f"{self.path}: run.json"
        return RunRecord.from_json(reading.json_file(self.path / "run.json", place), place)

    def config(self) -> dict[str, Any]:
        """Read config.yaml."""
        import yaml

        config: dict[str, Any] = yaml.safe_load((self.path / "config.yaml").read_text("utf-8"))
        return config

    # -------------------------------------------------------------------------------------------------------- the rows
    def append(self, result: CaseResult, samples: Samples, predicted: Predictions | None = None) -> None:
        """Write a case: its predictions and samples, then its row. The row is on disk when this returns."""
        if predicted is not None:
            predictions.write(self.predictions_file, predicted)
        if samples.series:
            self._write_samples(result.case.id, samples)
        else:  # samples of an earlier row of the case
            (self.path / "samples" / f"{result.case.id}.parquet").unlink(missing_ok=True)
        notes = SampleNotes(samples.missing, samples.flags, samples.faults)
        row = typed_json.write(result, result.case.id)
        row = {"schema": SCHEMA_VERSION, **row, "samples": typed_json.write(notes, result.case.id)}
        atomic.append_line(self.path / "results.jsonl", json.dumps(row, allow_nan=False))

    def remove_rows(self, cases: Collection[str]) -> None:
        """Remove the rows of cases. Lines that cannot be read are kept."""
        file = f"{self.path}: results.jsonl"
        lines = reading.lines_of(self.path / "results.jsonl", file)

        def concerns(line: str) -> bool:
            with suppress(ConfigError):
                return (self._row(line, file).get("case") or {}).get("id") in cases
            return False

        kept = [line for line in lines if not line or not concerns(line)]
        if kept != lines:
            atomic.write(self.path / "results.jsonl", "\n".join(kept))

    def results(self) -> list[CaseResult]:
        """Read the rows in the order of the measurement. Of the rows of one case, only the latest is returned.

        Raises ConfigError that names the folder and the line.
        """
        rows: dict[str, CaseResult] = {}
        for place, row in self._rows():
            result = typed_json.read(CaseResult, row, place)
            rows.pop(result.case.id, None)
            rows[result.case.id] = result
        return list(rows.values())

    def readable_results(self) -> tuple[list[CaseResult], list[str]]:
        """Read the rows that can be read, and return the fault of each line that cannot.

        A last line without a line end was cut short. Raises ConfigError if the file cannot be read at all.
        """
        file = f"{self.path}: results.jsonl"
        *lines, rest = reading.lines_of(self.path / "results.jsonl", file)
        rows, faults = [], []
        for number, line in enumerate(lines, 1):
            try:
                place = f"{file}, line {number}"
                rows.append(typed_json.read(CaseResult, self._row(line, place), place))
            except ConfigError as error:
                faults.append(error.problem)
        if rest:
            faults.append(f"{file}, line {len(lines) + 1} was cut short")
        return rows, faults

    def samples(self, case_id: str) -> Samples:
        """Read the raw samples of a case as they were appended. Raises ConfigError if the file cannot be read."""
        notes = self._notes(case_id)
        return Samples(self.series(case_id), notes.missing, notes.flags, notes.faults)

    def series(self, case_id: str) -> dict[str, np.ndarray]:
        """Read only the series of a case's samples, by name. Return none if the case has no file of samples.

        Raises ConfigError if the file cannot be read.
        """
        path = self.path / "samples" / f"{case_id}.parquet"
        if path.parent != self.path / "samples" or not os.path.lexists(path):
            return {}
        with reading.parquet_file(path, f"{self.path}: samples/{path.name}", ["series", "value"]) as table:
            names = table.column("series").combine_chunks().dictionary_encode()
            codes = names.indices.to_numpy()
            values = np.asarray(table.column("value").to_numpy(), np.float64)
            ends = [*(np.flatnonzero(np.diff(codes)) + 1), len(codes)]
            starts = [0, *ends[:-1]] if len(codes) else []
            known = names.dictionary.to_pylist()
            return {known[codes[start]]: values[start:end] for start, end in zip(starts, ends, strict=False)}

    def predictions(self) -> Predictions | None:
        """Read the predictions as they were appended, or return None if there are none.

        Raises ConfigError if the file cannot be read.
        """
        if not os.path.lexists(self.predictions_file):
            return None
        with reading.parquet_file(self.predictions_file, f"{self.path}: {self.predictions_file.name}") as table:
            return predictions.from_table(table)

    def picture_ids(self) -> list[str]:
        """Read the ids of the images that have a prediction, in the data set's order.

        Raises ConfigError if the file cannot be read.
        """
        if not os.path.lexists(self.predictions_file):
            return []
        place = f"{self.path}: {self.predictions_file.name}"
        with reading.parquet_file(self.predictions_file, place, ["id"]) as table:
            return [str(name) for name in table["id"].to_pylist()]

    def _notes(self, case_id: str) -> SampleNotes:
        file = f"{self.path}: results.jsonl"
        lines = reading.lines_of(self.path / "results.jsonl", file)[:-1]
        for number, line in reversed(list(enumerate(lines, 1))):
            place = f"{file}, line {number}"
            with suppress(ConfigError):  # a line that cannot be read
                row = self._row(line, place)
                if typed_json.read(Case, row.get("case"), f"{place}.case").id == case_id:
                    return typed_json.read(SampleNotes, row.get("samples"), f"{place}.samples")
        raise ConfigError(f"{self.path}: results.jsonl has no case {case_id}")

    def _rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each row with its place. A last line without a line end was cut short, and is left out."""
        file = f"{self.path}: results.jsonl"
        *lines, _ = reading.text_file(self.path / "results.jsonl", file).split("\n")
        for number, line in enumerate(lines, 1):
            place = f"{file}, line {number}"
            yield place, self._row(line, place)

    def _row(self, line: str, place: str) -> dict[str, Any]:
        row = reading.parse_json(line, place)
        if not isinstance(row, dict):
            raise ConfigError(f"{place} is not an object")
        refuse_newer(row.get("schema"), str(self.path))
        return row

    def _write_samples(self, case_id: str, samples: Samples) -> None:
        """Write the samples as one table with the columns series, index within the series, and value."""
        import pandas as pd

        lengths = [len(values) for values in samples.series.values()]
        frame = pd.DataFrame(
            {
                "series": pd.Categorical(np.repeat(list(samples.series), lengths), categories=list(samples.series)),
                "index": np.concatenate([np.arange(length) for length in lengths]),
                "value": np.concatenate([np.asarray(values, np.float64) for values in samples.series.values()]),
            }
        )
        atomic.write(
            self.path / "samples" / f"{case_id}.parquet", frame.to_parquet(index=False, write_page_checksum=True)
        )
