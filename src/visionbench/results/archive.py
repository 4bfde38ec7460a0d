"""The results on disk: every run below an output folder, its sweep, and choosing among them by what they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from visionbench.core import CaseResult, first_line
from visionbench.declarations import Declarations
from visionbench.records.folder import RunFolder
from visionbench.registry import ConfigError, nearest
from visionbench.results import declared, summary

UNKNOWN = "unknown"
LATEST = "latest"
NEEDED = ("uid", "sweep", "started_at", "status", "host", "plan", "config")
"""The conditions that every run has from its start."""


@dataclass(frozen=True)
class Run:
    """What one run brought: its conditions (run.json) and its rows; and where its folder is, where it was read."""

    conditions: Mapping[str, Any]
    results: Sequence[CaseResult]
    folder: RunFolder | None = None

    @classmethod
    def read(cls, folder: RunFolder) -> Run:
        """A run from its folder's files. Raises ConfigError where they were cut short or are no run's."""
        try:
            conditions = folder.conditions()
            lacking = [name for name in NEEDED if name not in conditions]
            if lacking:
                raise ConfigError(f"{folder.path}: run.json lacks {', '.join(lacking)}")
            return cls(conditions, folder.results(), folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{folder.path}: {type(error).__name__}: {first_line(error)}") from error

    @cached_property
    def declarations(self) -> Declarations:
        """The declarations of its metrics."""
        return declared.of_conditions(self.conditions)

    @property
    def name(self) -> str:
        """`clip_vit_b32 · cuda:0 · bf16`."""
        return str(self.conditions["plan"]["name"])

    @property
    def model(self) -> str:
        """The model's name in the config."""
        return str(self.conditions["plan"]["model"])

    @property
    def sweep(self) -> str:
        """What the runs of one command share."""
        return str(self.conditions["sweep"])

    @property
    def timed(self) -> list[CaseResult]:
        """The batch sizes, whether they have numbers or not, by size."""
        return sorted((row for row in self.results if row.case.timed), key=lambda row: row.case.batch_size)

    @property
    def quality(self) -> CaseResult | None:
        """The quality case, which speaks for all batch sizes."""
        return next((row for row in self.results if not row.case.timed), None)

    def facts(self) -> dict[str, str]:
        """What a run is found by: the names that a filter takes, `model=clip_tiny`, to its values."""
        plan, config = self.conditions["plan"], self.conditions["config"]
        device, host = self.conditions.get("device", {}), self.conditions["host"]
        return {
            "model": plan["model"],
            "task": plan["task"],
            "family": config["model"]["family"],
            "weights": config["model"]["weights"],
            "device": plan["device"],
            "device_name": str(device.get("device_name", UNKNOWN)),
            "precision": plan["precision"],
            "threads": str(device.get("threads", UNKNOWN)),
            "data": config["data"]["name"],
            "protocol": plan["protocol"],
            "status": self.conditions["status"],
            "validity": summary.verdict(self.results) or "none",
            "sweep": self.sweep,
            "host": str(host.get("host", UNKNOWN)),
            "git_commit": str(self.conditions.get("git_commit") or UNKNOWN),
        }


FACTS = (
    "model",
    "task",
    "family",
    "weights",
    "device",
    "device_name",
    "precision",
    "threads",
    "data",
    "protocol",
    "status",
    "validity",
    "sweep",
    "host",
    "git_commit",
)
"""The keys of `Run.facts`."""


def folders(output_dir: Path) -> list[RunFolder]:
    """Every run's folder in this one (which may be a run's itself), by name; not its repeats, nor a store's copies."""
    return [RunFolder(path) for path in sorted(_with_runs(output_dir))]


def _with_runs(output_dir: Path) -> Iterator[Path]:
    for place, below, files in os.walk(output_dir):
        run = "run.json" in files
        below[:] = [name for name in below if name != "mlartifacts" and not (run and name in ("repeats", "samples"))]
        if run:
            yield Path(place)


def warn(line: str) -> None:
    """Say on standard error what was left out, where results on standard output stay clean of it."""
    print(f"visionbench: {line}", file=sys.stderr)


def read(output_dir: Path, tell: Callable[[str], None] = warn) -> list[Run]:
    """Every run below a folder, in the order they began; one that cannot be read is left out and told in a line."""
    found = []
    for folder in folders(output_dir):
        try:
            found.append(Run.read(folder))
        except ConfigError as error:
            tell(f"left out {error}")
    return sorted(found, key=lambda run: str(run.conditions["started_at"]))


def of_folder(output_dir: Path) -> list[Run]:
    """Every run below a folder, in the order they began. Raises ConfigError where there is none."""
    if runs := read(output_dir):
        return runs
    raise ConfigError(f"--output-dir {output_dir}: no run in it", "measure something first: visionbench run")


def of_sweep(output_dir: Path, sweep: str) -> list[Run]:
    """The runs of a sweep, named by its id, by a folder, or `latest`. Raises ConfigError where there is none."""
    if sweep != LATEST and Path(sweep).is_dir():
        if runs := read(Path(sweep)):
            return runs
        raise ConfigError(f"{sweep}: no run in this folder")
    if (output_dir / sweep).is_dir() and (runs := read(output_dir / sweep)):
        return runs  # as most sweeps lie: nothing else has to be read
    found = of_folder(output_dir)
    wanted = found[-1].sweep if sweep == LATEST else sweep
    if runs := [run for run in found if run.sweep == wanted]:
        return runs
    raise ConfigError(f"'{sweep}': no such sweep in {output_dir}{nearest(sweep, {run.sweep for run in found})}")


def parse_filter(text: str, where: str) -> dict[str, str]:
    """`model=clip_tiny,precision=fp32` as names and values. Raises ConfigError, naming `where` it came from."""
    pairs = {}
    for part in filter(None, text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise ConfigError(f"{where} {text}: '{part}' is not of the form name=value, as in model=clip_tiny")
        if name not in FACTS:
            raise ConfigError(f"{where} {text}: runs have no '{name}'{nearest(name, FACTS)}")
        pairs[name] = value
    return pairs


def choose(runs: Sequence[Run], wanted: Mapping[str, str]) -> list[Run]:
    """The runs that have all of these facts."""
    return [run for run in runs if wanted.items() <= run.facts().items()]


def select(runs: Sequence[Run], wanted: Mapping[str, str], where: str) -> list[Run]:
    """The runs that have all of these facts. Raises ConfigError where none has, with the values that there are."""
    if chosen := choose(runs, wanted):
        return chosen
    facts = [run.facts() for run in runs]
    for name, value in wanted.items():
        if value not in (known := {of_run[name] for of_run in facts}):
            raise ConfigError(f"{where}: no run has {name}={value}", f"there are: {', '.join(sorted(known))}")
    raise ConfigError(f"{where}: each of these occurs, but no run has all of them")


def sweeps(runs: Sequence[Run]) -> Iterator[tuple[str, list[Run]]]:
    """Sweeps and their runs, in the order that they began."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.sweep, []).append(run)
    yield from found.items()
