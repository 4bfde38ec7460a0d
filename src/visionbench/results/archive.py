"""The results on disk: every run below an output folder, its sweep, and choosing among them by what they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from visionbench.core import CaseResult
from visionbench.declarations import Declarations
from visionbench.records.folder import RunFolder
from visionbench.records.record import RunRecord
from visionbench.registry import ConfigError, nearest
from visionbench.results import declared, summary

UNKNOWN = "unknown"
LATEST = "latest"


@dataclass(frozen=True)
class Run:
    """The results of one run: its record (run.json), its rows, and its folder if it was read from one."""

    record: RunRecord
    results: Sequence[CaseResult]
    folder: RunFolder | None = None

    @classmethod
    def read(cls, folder: RunFolder) -> Run:
        """Read a run from the files of its folder. Raises ConfigError if a file is cut short or is not a run's."""
        return cls(folder.record(), folder.results(), folder)

    @cached_property
    def declarations(self) -> Declarations:
        """The declarations of its metrics."""
        return declared.of_record(self.record)

    @property
    def name(self) -> str:
        """`clip_vit_b32 · cuda:0 · bf16`."""
        return self.record.plan.name

    @property
    def model(self) -> str:
        """The model's name in the config."""
        return self.record.plan.model

    @property
    def sweep(self) -> str:
        """What the runs of one command share."""
        return self.record.sweep

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
        facts = self.record.facts()
        renamed = {"status": facts["run_status"], "validity": summary.verdict(self.results) or "none"}
        known = {name: facts.get(name) for name in FACTS} | renamed
        return {name: UNKNOWN if value is None else str(value) for name, value in known.items()}


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
    return sorted(found, key=lambda run: run.record.started_at)


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
