"""The results on disk: every run below an output folder, grouped by sweep and filtered by its facts."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from visionbench import variation
from visionbench.core import (
    AUTO,
    LOST,
    OK,
    PENDING,
    SERVING,
    CaseResult,
    ConfigError,
    Predictions,
    Reason,
    Samples,
    one_line,
)
from visionbench.declarations import Declarations
from visionbench.records import process, reading
from visionbench.records import sweep as sweep_record
from visionbench.records.folder import RunFolder
from visionbench.records.record import FINISHED, RUNNING, UNSUCCESSFUL, Host, RunRecord
from visionbench.records.record import LOST as LOST_RUN
from visionbench.records.record import PENDING as PENDING_RUN
from visionbench.records.sweep import PlannedRun, SweepRecord
from visionbench.registry import nearest
from visionbench.results import declared, repeats, summary

T = TypeVar("T")

UNKNOWN = "unknown"
"""The value of a fact that is not known."""
NO_ROW = "the run ended without a row for this case"
"""The reason of a case with the status `lost`."""
NEVER_STARTED = "the run never started"
"""The reason of a case of a run that its sweep planned and did not start."""
NO_FOLDER = "the run has no results: it never started, or its folder was removed"
"""The same for a sweep that has ended, and was not killed."""
RECORD, ROWS = "run.json", "results.jsonl"
HYDRA_FILES = (".hydra", "multirun.yaml")
"""The files that Hydra writes into the folder of a run or of a sweep before anything is planned."""
YEARS = range(1970, 2262)
"""The years of times that pandas can hold."""
NOT_MEASURED_YET = "not measured yet"
"""The reason of a case with the status `pending`."""
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
    "runtime",
    "decoder",
    "preprocess",
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
class Damaged:
    """A folder with files that cannot be read, or that contradict each other."""

    path: Path
    reason: str
    left_out: bool = False
    """Whether no row of the folder is shown."""
    counts: bool = True
    """Whether a command fails because of it. False for a folder that a command prepares, or was killed in preparing."""

    @classmethod
    def of(cls, path: Path, problem: str, left_out: bool = False) -> Damaged:
        """Return the damage with this problem, whose text may begin with the path."""
        return cls(path, problem.removeprefix(f"{path}: "), left_out)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"

    @property
    def line(self) -> str:
        """The warning about the folder."""
        return f"{'left out' if self.left_out else 'damaged'} {self}"


@dataclass(frozen=True)
class Run:
    """The results of one run: its record (run.json), its rows, and the folder if it was read from a folder."""

    record: RunRecord
    results: Sequence[CaseResult]
    folder: RunFolder | None = None
    damage: list[Damaged] = field(default_factory=list, compare=False)
    """The faults of the run's files. Each reader that meets another fault adds it."""
    gathered: Mapping[str, Samples] | None = field(default=None, compare=False)
    """The samples of each case, if the repeats of the run were gathered when it was read."""

    @classmethod
    def read(cls, folder: RunFolder) -> Run:
        """Read a run from the files of its folder, with a row for each planned case (see `complete`).

        A line that cannot be read is left out, and is named in `damage`. Raises ConfigError if the record cannot be
        read. The status becomes `lost` if the process that measured the run has ended, and `failed` if the run ended
        but a planned case has no row.
        """
        if not (folder.path / RECORD).exists() and (processes := repeats.folders(folder)):
            return _gather(folder, processes)
        record = folder.record()
        _check_times(record, f"{folder.path}: {RECORD}")
        try:
            rows, faults = folder.readable_results()
        except ConfigError as error:
            rows, faults = [], [error.problem]
        record = _with_actual_status(record)
        measured, contradictions = _distinct(record, rows)
        results = complete(record, measured)
        lost = sum(row.status == LOST for row in results)
        if record.status == RUNNING:
            faults = [fault for fault in faults if not fault.endswith("was cut short")]  # it is being written
        elif lost and record.status != LOST_RUN:
            contradictions.append(f"results.jsonl has no row of {lost} of {len(record.plan.cases)} planned cases")
        if lost and record.status == FINISHED:
            record = replace(record, status=UNSUCCESSFUL)
        if ends_before_start(record):
            doubt = Reason("clock_moved", f"ended_at ({record.ended_at}) is before started_at ({record.started_at})")
            results = [
                replace(row, validity=row.validity.with_doubt(doubt)) if row.status == OK else row for row in results
            ]
        return cls(record, results, folder, [Damaged.of(folder.path, text) for text in (*faults, *contradictions)])

    def samples(self, case_id: str) -> Samples:
        """Return the raw samples of a case, or none if they cannot be read, which is then part of `damage`."""
        if self.gathered is not None:
            return self.gathered.get(case_id, Samples())
        return self._readable(self.folder, lambda folder: folder.samples(case_id)) or Samples()

    def series(self, case_id: str) -> Mapping[str, np.ndarray]:
        """Return only the series of a case's samples, as `samples` does."""
        if self.gathered is not None:
            return self.samples(case_id).series
        return self._readable(self.folder, lambda folder: folder.series(case_id)) or {}

    def first_process(self) -> RunFolder | None:
        """Return the folder of the first process that measured the run."""
        if self.folder is None:
            return None
        first = RunFolder(self.folder.path / "repeats" / "1")
        return first if (first.path / ROWS).is_file() else self.folder

    def samples_of_first_process(self, case_id: str) -> Samples:
        """Return the series of a case's samples in the first process, as `series` does."""
        return Samples(self._readable(self.first_process(), lambda folder: folder.series(case_id)) or {})

    def picture_ids(self) -> list[str]:
        """Return the ids of the images that have a prediction, as `samples` does."""
        return self._readable(self.first_process(), lambda folder: folder.picture_ids()) or []

    def predictions(self) -> Predictions | None:
        """Return the predictions, as `samples` does."""
        return self._readable(self.folder, lambda folder: folder.predictions())

    def _readable(self, folder: RunFolder | None, read: Callable[[RunFolder], T]) -> T | None:
        """Return what can be read from a folder, or None. A file that cannot be read is part of `damage`."""
        if folder is None:
            return None
        try:
            return read(folder)
        except ConfigError as error:
            damaged = Damaged.of(folder.path, error.problem)
            if damaged not in self.damage:
                self.damage.append(damaged)
            return None

    @cached_property
    def declarations(self) -> Declarations:
        """The declarations of the run's metrics."""
        return declared.of_record(self.record)

    @property
    def has_record(self) -> bool:
        """Whether the record was read from a file. Otherwise it has only the plan of the sweep."""
        record = self.record
        return record.status not in (LOST_RUN, PENDING_RUN) or bool(record.process or record.repeats)

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

    @cached_property
    def timed(self) -> list[CaseResult]:
        """The rows of the batch sizes, with or without numbers, by size. Without a size that no search has found."""
        rows = (row for row in self.results if row.case.timed and row.case.id != AUTO)
        return sorted(rows, key=lambda row: row.case.batch_size)

    @cached_property
    def loads(self) -> list[CaseResult]:
        """The rows of the loads that were measured, by load, with or without numbers."""
        rows = (row for row in self.results if row.case.offered is not None)
        return sorted(rows, key=lambda row: row.case.order)

    @cached_property
    def load_search(self) -> CaseResult | None:
        """The row of the search for the largest load, or None if there is none."""
        return next((row for row in self.results if row.case.id == SERVING), None)

    @cached_property
    def quality(self) -> CaseResult | None:
        """The row of the quality case, which holds for all batch sizes, or None if there is none."""
        return next((row for row in self.results if row.case.is_quality), None)

    def facts(self) -> dict[str, str]:
        """Return the facts that runs are filtered by, by their names in `FACTS`."""
        facts = self.record.facts()
        derived = {"status": facts["run_status"], "validity": summary.verdict(self.results) or "none"}
        known = {name: facts.get(name) for name in FACTS} | derived
        return {name: UNKNOWN if value is None else str(value) for name, value in known.items()}


def complete(record: RunRecord, rows: Sequence[CaseResult]) -> list[CaseResult]:
    """Return the rows and, at the end, a row for each planned case that has none.

    Its status is `pending` while the run is running, else `lost`.
    """
    known = {row.case.id for row in rows}
    running = record.status in (RUNNING, PENDING_RUN)
    status, reason = (PENDING, NOT_MEASURED_YET) if running else (LOST, NO_ROW)
    return [*rows, *(CaseResult(case, status, reason) for case in record.plan.cases if case.id not in known)]


def ends_before_start(record: RunRecord) -> bool:
    """Return whether the wall clock was set back while a run of an earlier version was measured."""
    return bool(record.ended_at) and _time(record.ended_at) < _time(record.started_at)


def _time(text: str | None) -> datetime:
    """Return the time of a text without a time zone as UTC."""
    time = datetime.fromisoformat(text or "")
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _check_times(record: RunRecord, place: str) -> None:
    """Raise ConfigError that names the key of a time that is not a date with a time."""
    starts = record.repeats.started_at if record.repeats else ()
    times = {"started_at": record.started_at, "ended_at": record.ended_at}
    times |= {f"repeats.started_at[{index}]": start for index, start in enumerate(starts)}
    for key, text in times.items():
        try:
            year = datetime.fromisoformat(text).astimezone(UTC).year if text else YEARS[0]
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"{place}.{key} is not a time") from error
        if (key == "started_at" and not text) or year not in YEARS:
            raise ConfigError(f"{place}.{key} is not a time")


def _gather(folder: RunFolder, processes: Sequence[RunFolder]) -> Run:
    """Return the run of several processes that were not gathered into its folder, because the command was killed.

    While the command runs, all cases are pending. Raises ConfigError if no process has a record that can be read.
    """
    runs, faults = [], []
    for process_folder in processes:
        try:
            run = Run.read(process_folder)
        except ConfigError as error:
            faults.append(Damaged.of(folder.path, error.problem))
        else:
            runs.append(run)
            faults += [Damaged(folder.path, f"repeats/{process_folder.path.name}: {one.reason}") for one in run.damage]
    if not runs:
        raise ConfigError(f"{folder.path}: no process below repeats can be read ({faults[0].reason})")
    records = [run.record for run in runs]
    settings = records[0].settings.measure
    planned, seed = (settings.get(name) for name in ("repeats", "order_seed"))
    planned = planned if isinstance(planned, int) else len(runs)
    combined = repeats.combine(records, seed if isinstance(seed, int) else 0, max(planned, len(runs)))
    ended = [one.process is None or process.has_ended(one.process, one.host.name) for one in records]
    if not all(ended):
        reason = f"{NOT_MEASURED_YET} ({len(runs)} of {planned} processes have started)"
        pending = [CaseResult(case, PENDING, reason) for case in combined.plan.cases]
        return Run(replace(combined, status=RUNNING), pending, folder, faults, gathered={})
    within = repeats.tolerance(combined)
    rows = repeats.gather([run.results for run in runs], declared.of_record(combined), planned, within)
    record = replace(combined, status=LOST_RUN)
    results = complete(record, [row for row, _ in rows])
    return Run(record, results, folder, faults, gathered={row.case.id: samples for row, samples in rows})


def _with_actual_status(record: RunRecord) -> RunRecord:
    """Return the record, with the status `lost` if its status is `running` and the process that wrote it has ended."""
    if record.status == RUNNING and record.process and process.has_ended(record.process, record.host.name):
        return replace(record, status=LOST_RUN)
    return record


def _distinct(record: RunRecord, rows: Sequence[CaseResult]) -> tuple[list[CaseResult], list[str]]:
    """Return one row of each case, the last one, and sentences about cases with several rows or without a plan."""
    by_case = {row.case.id: row for row in rows}
    planned = {case.id for case in record.plan.cases}
    counts = {} if record.sessions else Counter(row.case.id for row in rows)  # a later session measures cases again
    several = [name for name, count in counts.items() if count > 1]
    problems = [f"results.jsonl has several rows of {name}; the last one counts" for name in several]
    problems += [
        f"results.jsonl has a row of {name}, which is not planned"
        for name in by_case
        if planned and name not in planned
    ]
    return list(by_case.values()), problems


# ------------------------------------------------------------------------------------------------------------- reading
@dataclass
class Damages:
    """The damaged folders that a command has read. Each is printed once, in one line on standard error."""

    known: list[Damaged] = field(default_factory=list)

    def __call__(self, damaged: Damaged) -> None:
        """Print and store a damaged folder."""
        if damaged not in self.known:
            self.known.append(damaged)
            warn(damaged.line)

    def exit_code(self, code: int, runs: Sequence[Run] = ()) -> int:
        """Print the damage that was detected while the runs were used, and return 1 if any folder is damaged."""
        for damaged in [damaged for run in runs for damaged in run.damage]:
            if not any(damaged.path == one.path and damaged.reason in one.reason for one in self.known):
                self(damaged)
        return 1 if any(damaged.counts for damaged in self.known) else code


def folders(output_dir: Path) -> list[RunFolder]:
    """Return the folder of every run below an output folder, by name.

    The output folder may be the folder of a run itself. Repeats and the copies of a tracking store are left out.
    """
    return [RunFolder(path) for path, files in sorted(walk(output_dir)) if RECORD in files]


def walk(
    output_dir: Path, unreadable: Callable[[OSError], None] = lambda _: None
) -> Iterator[tuple[Path, frozenset[str]]]:
    """Yield each folder that has a file of a run or of a sweep, with the names of these files.

    `unreadable` receives the error of each folder that cannot be listed.
    """
    for path, subfolders, files in os.walk(output_dir, onerror=unreadable):
        entries = {*files, *subfolders}
        names = frozenset(entries & {RECORD, ROWS, sweep_record.FILE, *HYDRA_FILES})
        if {"config.yaml", "repeats"} <= entries:
            names |= {ROWS}  # a run of several processes, whose rows are missing
        parts = ("repeats", "samples") if names & {RECORD, ROWS} else ()
        subfolders[:] = [name for name in subfolders if name not in ("mlartifacts", *parts)]
        if names:
            yield Path(path), names


def warn(line: str) -> None:
    """Print a warning to standard error, so that standard output contains only results."""
    print(f"visionbench: {one_line(line)}", file=sys.stderr)


def print_damage(damaged: Damaged) -> None:
    """Print a damaged folder in one line on standard error."""
    warn(damaged.line)


def read(output_dir: Path, report: Callable[[Damaged], None] = print_damage) -> list[Run]:
    """Read every run below a folder, in the order of their start. `report` receives each damaged folder.

    The runs that a sweep planned and never started are runs without results. A damaged folder does not affect others.
    """
    runs: dict[Path, Run] = {}
    problems: dict[Path, str] = {}
    unstarted: dict[Path, Run] = {}
    sweeps, prepared = [], []

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            report(Damaged(Path(error.filename), f"the folder cannot be read ({error.strerror})", left_out=True))

    for path, files in sorted(walk(output_dir, unreadable)):
        if sweep_record.FILE in files:
            sweeps.append(path)
        if not files & {RECORD, ROWS}:
            prepared += [path] if sweep_record.FILE not in files else []
            continue
        try:
            runs[path] = run = Run.read(RunFolder(path))
        except ConfigError as error:
            problems[path] = error.problem
        else:
            if run.damage:
                report(Damaged(path, "; ".join(one.reason for one in run.damage)))
    for path in sweeps:
        try:
            planned, pending = _unstarted(path, runs, problems)
        except ConfigError as error:
            report(Damaged.of(path, error.problem, left_out=path not in runs))
            continue
        unstarted |= planned
        for folder in pending:
            problems.pop(folder, None)
    for path, problem in problems.items():
        report(Damaged.of(path, problem, left_out=path not in unstarted))
    known = {*runs, *problems, *unstarted}
    for path in prepared:
        if not any(one.is_relative_to(path) for one in known) and _is_of_visionbench(path):
            report(Damaged(path, "no run was planned in it", left_out=True, counts=False))
    started = sorted(runs.values(), key=lambda run: run.record.started_at)
    latest = {run.sweep: run.record.started_at for run in started}
    places = [((run.record.started_at, False), run) for run in started]
    places += [((max(latest.get(run.sweep, ""), run.record.started_at), True), run) for run in unstarted.values()]
    return [run for _, run in sorted(places, key=lambda place: place[0])]


def _is_of_visionbench(folder: Path) -> bool:
    """Return whether the files of Hydra in a folder are of a command of visionbench."""
    for name in HYDRA_FILES:
        path = folder / name / "hydra.yaml" if name == ".hydra" else folder / name
        with suppress(ConfigError):
            if "app_name: visionbench run" in reading.text_file(path, name):
                return True
    return False


def _unstarted(
    folder: Path, runs: Mapping[Path, Run], problems: Mapping[Path, str]
) -> tuple[dict[Path, Run], list[Path]]:
    """Return the planned runs of a sweep without a record, and those of them that the running sweep will measure.

    Raises ConfigError if sweep.json cannot be read.
    """
    sweep = SweepRecord.read(folder)
    missing = {
        path: run
        for run in (sweep.runs if sweep else ())
        if (path := Path(os.path.normpath(folder / run.folder))) not in runs
    }
    if sweep is None or not missing:
        return {}, []
    running = sweep.is_running
    pending = [path for path in missing if running and not (path / RECORD).exists()]
    return {
        path: _run_without_record(sweep, run, path, path in pending, problems.get(path, ""))
        for path, run in missing.items()
    }, pending


def _run_without_record(sweep: SweepRecord, planned: PlannedRun, path: Path, pending: bool, problem: str) -> Run:
    """Return a planned run that has no record, with a row for each case."""
    unstarted = NO_FOLDER if sweep.ended_at else NEVER_STARTED
    reason = Damaged.of(path, problem).reason if problem else unstarted
    config = planned.parsed_config(f"{path.parent}: {sweep_record.FILE}")
    record = RunRecord(
        uid=hashlib.sha256(f"{sweep.id}/{planned.folder}".encode()).hexdigest()[:32],
        sweep=sweep.id,
        started_at=sweep.started_at,
        status=PENDING_RUN if pending else LOST_RUN,
        host=Host(name=sweep.host, values={"host": sweep.host} if sweep.host else {}),
        plan=planned.plan,
        config=config,
    )
    rows = complete(record, ())
    return Run(record, rows if pending else [replace(row, reason=reason) for row in rows], RunFolder(path))


def of_folder(output_dir: Path, report: Callable[[Damaged], None] = print_damage) -> list[Run]:
    """Return every run below a folder, in the order of their start. Raises ConfigError if there is none."""
    if runs := read(output_dir, report):
        return runs
    raise ConfigError(f"--output-dir {output_dir}: no run in it", "measure something first: visionbench run")


def of_sweep(
    output_dir: Path, sweep: str, argument: str = "", report: Callable[[Damaged], None] = print_damage
) -> list[Run]:
    """Return the runs of a sweep, named by its id, by a folder, or by `latest`.

    Raises ConfigError if there is none. Its message begins with the name of the argument, if one is given.
    """
    prefix = f"{argument} " if argument else ""
    if not sweep:
        raise ConfigError(f"{prefix}'': the name of the sweep is empty", "give its id, its folder or latest")
    is_folder = sweep != LATEST and Path(sweep).is_dir()
    if is_folder and (runs := read(Path(sweep), report)):
        return runs
    if (output_dir / sweep).is_dir() and (runs := read(output_dir / sweep, report)):
        return runs  # the usual layout, in which no other folder has to be read
    all_runs = of_folder(output_dir, report) if sweep == LATEST else read(output_dir, report)
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


def of_sweeps(output_dir: Path, sweeps: Sequence[str], report: Callable[[Damaged], None] = print_damage) -> list[Run]:
    """Return the runs of several sweeps, or of the latest sweep if none is named, as `of_sweep` does."""
    return [run for sweep in sweeps or [LATEST] for run in of_sweep(output_dir, sweep, report=report)]


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
    if not facts:
        return list(runs)
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
    fact = nearest(name, FACTS)
    ending = fact if "did you mean" in fact else nearest(name, [*FACTS, *ends])
    raise ConfigError(f"{option}: runs have no '{name}'{ending}")


def sweeps(runs: Sequence[Run]) -> Iterator[tuple[str, list[Run]]]:
    """Yield each sweep and its runs, in the order of their start."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.sweep, []).append(run)
    yield from groups.items()
