"""The results on disk: every run below an output folder, grouped by sweep and filtered by its facts."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from visionbench import variation
from visionbench.core import CaseResult, ConfigError
from visionbench.declarations import Declarations
from visionbench.records.folder import RunFolder
from visionbench.records.record import RunRecord
from visionbench.registry import nearest
from visionbench.results import declared, summary

UNKNOWN = "unknown"
"""The value of a fact that is not known."""
MOST_PROBLEMS = 3
"""The most unreadable runs that are described; further ones are counted."""
LATEST = "latest"
"""The name of the sweep that started last."""
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
"""The keys of `Run.facts`. A filter such as `model=clip_tiny` accepts them, and keys of the configuration."""


@dataclass(frozen=True)
class Run:
    """The results of one run: its record (run.json), its rows, and the folder if it was read from a folder."""

    record: RunRecord
    results: Sequence[CaseResult]
    folder: RunFolder | None = None

    @classmethod
    def read(cls, folder: RunFolder) -> Run:
        """Read a run from the files of its folder. Raises ConfigError if a file is truncated or not of a run."""
        return cls(folder.record(), folder.results(), folder)

    @cached_property
    def declarations(self) -> Declarations:
        """The declarations of the run's metrics."""
        return declared.of_record(self.record)

    @property
    def name(self) -> str:
        """The name of the run, such as `clip_vit_b32 · cuda:0 · bf16`."""
        return self.record.plan.name

    @property
    def model(self) -> str:
        """The name of the model in the configuration."""
        return self.record.plan.model

    @property
    def sweep(self) -> str:
        """The id that the runs of one command share."""
        return self.record.sweep

    @property
    def timed(self) -> list[CaseResult]:
        """The rows of the batch sizes, with or without numbers, by size."""
        return sorted((row for row in self.results if row.case.timed), key=lambda row: row.case.batch_size)

    @property
    def quality(self) -> CaseResult | None:
        """The row of the quality case, which holds for all batch sizes, or None if there is none."""
        return next((row for row in self.results if not row.case.timed), None)

    def facts(self) -> dict[str, str]:
        """Return the facts that runs are filtered by, by their names in `FACTS`."""
        facts = self.record.facts()
        derived = {"status": facts["run_status"], "validity": summary.verdict(self.results) or "none"}
        known = {name: facts.get(name) for name in FACTS} | derived
        return {name: UNKNOWN if value is None else str(value) for name, value in known.items()}


# ------------------------------------------------------------------------------------------------------------- reading
def folders(output_dir: Path) -> list[RunFolder]:
    """Return the folder of every run below an output folder, by name.

    The output folder may be the folder of a run itself. Repeats and the copies of a tracking store are left out.
    """
    return [RunFolder(path) for path in sorted(_paths(output_dir))]


def _paths(output_dir: Path) -> Iterator[Path]:
    for path, subfolders, files in os.walk(output_dir):
        is_run = "run.json" in files
        parts = ("repeats", "samples") if is_run else ()
        subfolders[:] = [name for name in subfolders if name not in ("mlartifacts", *parts)]
        if is_run:
            yield Path(path)


def warn(line: str) -> None:
    """Print a warning to standard error, so that standard output contains only results."""
    print(f"visionbench: {line}", file=sys.stderr)


def read(output_dir: Path, report: Callable[[str], None] = warn) -> list[Run]:
    """Read every run below a folder, in the order of their start. Unreadable runs are reported in a few lines."""
    runs, problems = [], []
    for folder in folders(output_dir):
        try:
            runs.append(Run.read(folder))
        except ConfigError as error:
            problems.append(str(error))
    for problem in problems[:MOST_PROBLEMS]:
        report(f"left out {problem}")
    if further := problems[MOST_PROBLEMS:]:
        report(f"left out {len(further)} more runs of {output_dir} that cannot be read")
    return sorted(runs, key=lambda run: run.record.started_at)


def of_folder(output_dir: Path) -> list[Run]:
    """Return every run below a folder, in the order of their start. Raises ConfigError if there is none."""
    if runs := read(output_dir):
        return runs
    raise ConfigError(f"--output-dir {output_dir}: no run in it", "measure something first: visionbench run")


def of_sweep(output_dir: Path, sweep: str, argument: str = "") -> list[Run]:
    """Return the runs of a sweep, named by its id, by a folder, or by `latest`.

    Raises ConfigError if there is none. Its message begins with the name of the argument, if one is given.
    """
    prefix = f"{argument} " if argument else ""
    if not sweep:
        raise ConfigError(f"{prefix}'': the name of the sweep is empty", "give its id, its folder or latest")
    is_folder = sweep != LATEST and Path(sweep).is_dir()
    if is_folder and (runs := read(Path(sweep))):
        return runs
    if (output_dir / sweep).is_dir() and (runs := read(output_dir / sweep)):
        return runs  # the usual layout, in which no other folder has to be read
    all_runs = of_folder(output_dir) if sweep == LATEST else read(output_dir)
    name = all_runs[-1].sweep if sweep == LATEST else sweep
    if runs := [run for run in all_runs if run.sweep == name]:
        return runs
    if is_folder:
        raise ConfigError(f"{prefix}{sweep}: no run in this folder", "give a folder that visionbench run has written")
    problem = f"{prefix}'{sweep}': no such sweep in {output_dir}"
    if not all_runs:
        state = "which has no runs" if output_dir.is_dir() else "which does not exist"
        raise ConfigError(f"{problem}, {state}", "measure something first (visionbench run), or set --output-dir")
    raise ConfigError(problem + _suggest(sweep, all_runs))


def _suggest(sweep: str, runs: Sequence[Run]) -> str:
    """Return the end of an error message: the sweep with the most similar id, or the latest sweep."""
    similar = nearest(sweep, {run.sweep for run in runs})
    return similar if "did you mean" in similar else f"; the latest is '{runs[-1].sweep}'"


# ----------------------------------------------------------------------------------------------------------- filtering
def parse_filter(text: str, option: str) -> dict[str, str]:
    """Parse a filter such as `model=clip_tiny,precision=fp32`. Raises ConfigError that names the option.

    A value in brackets may contain commas, as in `batch.sizes=[1,2]`.
    """
    pairs = {}
    for part in filter(None, re.split(r",(?![^\[]*\])", text)):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or not name:
            raise ConfigError(f"{option} {text}: '{part}' is not of the form name=value, as in model=clip_tiny")
        pairs[name] = value.removeprefix("[").removesuffix("]")
    return pairs


def choose(runs: Sequence[Run], facts: Mapping[str, str], option: str = "filter") -> list[Run]:
    """Return the runs that have all of these facts or values of their configuration.

    Raises ConfigError that names the option if a name is neither a fact nor a key, or is the end of several keys.
    """
    values = [run.facts() | variation.flatten(run.record.config) for run in runs]
    names = {name: _resolve_name(name, values, option) for name in facts} if runs else {}
    return [
        run
        for run, known in zip(runs, values, strict=True)
        if all(known.get(names[name]) == value for name, value in facts.items())
    ]


def select(runs: Sequence[Run], facts: Mapping[str, str], option: str) -> list[Run]:
    """Return the runs that have all of these facts. Raises ConfigError with the existing values if there is none."""
    if chosen := choose(runs, facts, option):
        return chosen
    for name, value in facts.items():
        if not choose(runs, {name: value}, option):
            raise ConfigError(
                f"{option}: no run has {name}={value}", f"there are: {', '.join(_values(runs, name, option))}"
            )
    raise ConfigError(f"{option}: each of these occurs, but no run has all of them")


def _values(runs: Sequence[Run], name: str, option: str) -> list[str]:
    values = [run.facts() | variation.flatten(run.record.config) for run in runs]
    return sorted({known.get(_resolve_name(name, values, option), UNKNOWN) for known in values})


def _resolve_name(name: str, values: Sequence[Mapping[str, str]], option: str) -> str:
    """Return the fact or the configuration key that a name of a filter means."""
    keys = dict.fromkeys(key for known in values for key in known)
    matches = variation.matching_keys(name, keys)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ConfigError(f"{option}: '{name}' may be {' or '.join(matches)}", "give the complete key")
    ends = dict.fromkeys(key.rpartition(".")[2] for key in keys)
    raise ConfigError(f"{option}: runs have no '{name}'{nearest(name, [*FACTS, *ends])}")


def sweeps(runs: Sequence[Run]) -> Iterator[tuple[str, list[Run]]]:
    """Yield each sweep and its runs, in the order of their start."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.sweep, []).append(run)
    yield from groups.items()
