"""The sweep that is continued: its folder, its command, and the runs in it with the rows of each process."""

from __future__ import annotations

import shlex
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from visionbench.core import CaseResult, ConfigError
from visionbench.records import process
from visionbench.records.folder import RunFolder
from visionbench.records.identity import Identity
from visionbench.records.record import RUNNING, RunRecord
from visionbench.records.sweep import FILE, SweepRecord
from visionbench.registry import nearest
from visionbench.results import archive

LATEST = "latest"
LOCK = ".resume.lock"
SHOWN_IDS = 5


@dataclass(frozen=True, eq=False)
class EarlierRun:
    """A run of the earlier sweep."""

    path: Path
    processes: Mapping[int, tuple[RunRecord, Mapping[str, CaseResult]]]
    """The record and the rows by case of each process, by its number from 1."""
    repeated: bool
    """Whether several processes measure the run, each into a folder below `repeats/`."""

    @property
    def record(self) -> RunRecord:
        """The record of the first process."""
        return next(iter(self.processes.values()))[0]

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.record.plan.name

    @cached_property
    def identity(self) -> Identity:
        """The identity of the run, from the first process that stored the identities of its device and data."""
        records = [record for record, _ in self.processes.values()]
        return Identity.of_record(next((record for record in records if record.device.values), records[0]))

    @cached_property
    def key(self) -> str:
        """The digest of the settings of the run."""
        return self.identity.key

    def row(self, number: int, case: str) -> CaseResult | None:
        """Return the row of a case in one process, or None if there is none."""
        _, rows = self.processes.get(number, (None, {}))
        return rows.get(case)

    @property
    def is_running(self) -> bool:
        """Whether a process that still exists writes the run."""
        return any(
            record.status == RUNNING and record.process and not process.has_ended(record.process, record.host.name)
            for record, _ in self.processes.values()
        )

    @classmethod
    def read(cls, path: Path) -> EarlierRun | None:
        """Read a run, or return None if there is no readable record. A row that cannot be read is no result."""
        repeats = [file for file in (path / "repeats").glob("*/run.json") if file.parent.name.isdecimal()]
        numbered = {int(file.parent.name): file.parent for file in repeats} or {1: path}
        processes = {}
        for number, folder in sorted(numbered.items()):
            with suppress(ConfigError):
                rows, _ = RunFolder(folder).readable_results()
                processes[number] = RunFolder(folder).record(), {row.case.id: row for row in rows}
        return cls(path, processes, bool(repeats)) if processes else None


@dataclass(frozen=True)
class EarlierSweep:
    """The sweep that is continued."""

    folder: Path
    record: SweepRecord | None
    runs: tuple[EarlierRun, ...]

    @property
    def id(self) -> str:
        """The id that all runs of the sweep share."""
        return self.record.id if self.record else self.runs[0].record.sweep

    @cached_property
    def paths(self) -> frozenset[Path]:
        """The folders of the runs."""
        return frozenset(run.path for run in self.runs)

    @property
    def several(self) -> bool:
        """Whether the command measured several runs (`-m`): the runs have folders below that of the sweep."""
        folders = [run.folder for run in self.record.runs] if self.record else []
        return any(name != "." for name in folders) or any(run.path != self.folder for run in self.runs)

    @classmethod
    def find(cls, output_dir: Path, name: str) -> EarlierSweep:
        """Find a sweep by its id or its folder, or the latest. Raises ConfigError with the ids that exist."""
        folder = _find(output_dir, name)
        runs = [run for path in _run_folders(folder) if (run := EarlierRun.read(path)) is not None]
        record = SweepRecord.read(folder)
        if record is None and not runs:
            raise ConfigError(f"resume={name}: {folder} has no run that can be read", "give another sweep")
        return cls(folder, record, tuple(runs))

    def words(self) -> list[str]:
        """Return the words of the command after `visionbench run`. Raises ConfigError if they are not stored."""
        command = list(self.record.command if self.record else ())
        if not command:
            raise ConfigError(
                f"resume={self.id}: the sweep does not store its command", "repeat the command with resume=… added"
            )
        words = command[1:]
        if words[:1] == ["tune"]:
            raise ConfigError(
                f"resume={self.id}: it is a search of visionbench tune", f"repeat its command: {shlex.join(command)}"
            )
        words = words[1:] if words[:1] == ["run"] else words
        return words

    def refuse_running(self) -> None:
        """Raise ConfigError if a process still measures the sweep."""
        names = [run.name for run in self.runs if run.is_running]
        pid = next((run.record.process.pid for run in self.runs if run.is_running and run.record.process), None)
        if self.record and self.record.process and not names and self.record.is_running:
            names, pid = [self.id], self.record.process.pid
        if names:
            raise ConfigError(
                f"resume={self.id}: {names[0]} is still being measured (process {pid})", "wait until it has ended"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the sweep. Raises ConfigError if another command holds it."""
        lock = FileLock(str(self.folder / LOCK), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ConfigError(
                f"resume={self.id}: another command resumes this sweep now", "wait until it has ended"
            ) from None
        try:
            self.refuse_running()
            yield
        finally:
            lock.release()


def _find(output_dir: Path, name: str) -> Path:
    """Return the folder of a sweep."""
    if name != LATEST:
        for path in (output_dir / name, Path(name)):
            if (path / FILE).is_file() or any(_run_folders(path)):
                return path
    sweeps = dict(_sweeps(output_dir))
    if not sweeps:
        state = "has no sweep" if output_dir.is_dir() else "does not exist"
        raise ConfigError(f"resume={name}: {output_dir} {state}", "measure something first, or set output_dir=…")
    latest_first = sorted(sweeps, key=lambda path: sweeps[path], reverse=True)
    if name == LATEST:
        return latest_first[0]
    ids = [path.name for path in latest_first]
    suggestion = nearest(name, ids)
    if "did you mean" not in suggestion:
        suggestion = f"; there are: {', '.join(ids[:SHOWN_IDS])}{', …' if len(ids) > SHOWN_IDS else ''}"
    raise ConfigError(f"resume={name}: no such sweep in {output_dir}{suggestion}")


def _sweeps(output_dir: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folder of each sweep below a folder, with its start."""
    known: set[Path] = set()
    for path in _folders(output_dir, FILE):
        with suppress(ConfigError):
            if record := SweepRecord.read(path):
                own = path.parent.name == record.id != path.name  # hydra/launcher=basic: each job writes its own record
                folder = path.parent if own else path
                known.add(folder)
                yield folder, record.started_at
    for path in _run_folders(output_dir):  # sweeps of older versions have no sweep.json
        if not known & {path, *path.parents}:
            with suppress(ConfigError):
                run = RunFolder(path).record()
                yield path.parent if path.parent.name == run.sweep else path, run.started_at


def _run_folders(folder: Path) -> Iterator[Path]:
    """Yield the folder of each run below a folder, which may be the folder of a run itself."""
    yield from _folders(folder, archive.RECORD, archive.ROWS)


def _folders(top: Path, *names: str) -> Iterator[Path]:
    """Yield each folder with a file of one of these names, in the order of their paths."""
    yield from (path for path, files in sorted(archive.walk(top)) if files & set(names))


def free_folder(sweep: Path, preferred: Path, occupied: Container[Path]) -> Path:
    """Return a folder for a new run of the sweep: the preferred one, or the first with a number that is free."""
    base = preferred if preferred != sweep else sweep / "2"
    candidates = [base, *(base.with_name(f"{base.name}_{number}") for number in range(2, 10_000))]
    return next(path for path in candidates if path not in occupied and not (path / "results.jsonl").exists())
