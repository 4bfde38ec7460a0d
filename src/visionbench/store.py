"""The run's folder: what is measured is written here first, and everything else reads it back.

config.yaml        the composed configuration, without secrets
run.json           identity and conditions: what ran, on what, with which versions
results.jsonl      one row a case, appended and flushed as it comes
samples/*.parquet  the raw samples of each case
worker.log         what libraries said while measuring
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visionbench.core import Case, CaseResult, Metrics, Samples, Validity
from visionbench.registry import ConfigError

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
                f"hydra.run.dir={path}: there are results already; give another folder, or move them away"
            )
        (path / "samples").mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").write_text(config_yaml)
        (path / "results.jsonl").touch()
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run's folder. Raises ConfigError where it is none."""
        if not (path / "results.jsonl").is_file():
            raise ConfigError(f"{path}: not a run's folder (it has no results.jsonl)")
        return cls(path)

    @property
    def log(self) -> Path:
        """Where the measuring process's output goes."""
        return self.path / "worker.log"

    def write_conditions(self, conditions: Mapping[str, Any]) -> None:
        """Write run.json, whole or not at all."""
        draft = self.path / "run.json.draft"
        draft.write_text(json.dumps({"schema": SCHEMA_VERSION, **conditions}, indent=2, default=str) + "\n")
        draft.replace(self.path / "run.json")

    def conditions(self) -> dict[str, Any]:
        """What run.json holds."""
        conditions: dict[str, Any] = json.loads((self.path / "run.json").read_text())
        return conditions

    def append(self, result: CaseResult, samples: Samples) -> None:
        """Keep a case: its samples, then its row, on disk before this returns."""
        if samples.series:
            self._write_samples(result.case.id, samples)
        row = {"schema": SCHEMA_VERSION, **asdict(result), "samples": {"missing": dict(samples.missing)}}
        row["samples"]["flags"] = dict(samples.flags)
        with (self.path / "results.jsonl").open("a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def config(self) -> dict[str, Any]:
        """What config.yaml holds."""
        import yaml

        config: dict[str, Any] = yaml.safe_load((self.path / "config.yaml").read_text())
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
            return Samples({}, notes["missing"], notes["flags"])
        frame = pd.read_parquet(path)
        series = {
            str(name): part["value"].to_numpy() for name, part in frame.groupby("series", sort=False, observed=True)
        }
        return Samples(series, notes["missing"], notes["flags"])

    def _rows(self) -> Iterator[dict[str, Any]]:
        *lines, _ = (self.path / "results.jsonl").read_text().split("\n")  # a last line without its end was cut short
        for line in lines:
            row = json.loads(line)
            if row["schema"] > SCHEMA_VERSION:
                raise ConfigError(
                    f"{self.path}: written by a newer visionbench (schema {row['schema']}); update to read it"
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
        validity=Validity(row["validity"]["verdict"], tuple(row["validity"]["reasons"])),
        labels=row["labels"],
    )
