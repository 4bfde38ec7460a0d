"""The SQLite file of a local store. It is built beside its place and renamed, so an interrupted set-up leaves no store.

A file whose set-up was interrupted by another program or an earlier version is set aside, and a new one is built.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Set
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from visionbench.trackers.mlflow.address import sqlite_uri

VERSION_TABLE = "alembic_version"
"""The table in which MLflow stores the version of the other tables."""
SIDE_FILES = ("-wal", "-shm", "-journal")
"""The suffixes of the files that SQLite writes beside a database."""
SYNC = "visionbench sync sends all runs again"


@dataclass(frozen=True)
class Condition:
    """The condition of a file as a store of MLflow. A complete store has no `problem`."""

    problem: str = ""
    exists: bool = True
    has_runs: bool = False
    """Whether the file has runs and a version, so that MLflow can read or upgrade it."""
    is_foreign: bool = False
    """Whether the file is a database of another program."""
    is_readable: bool = True
    """Whether SQLite can read the file."""


def examine(file: Path, tables: Set[str]) -> Condition:
    """Return the condition of a file. `tables` are the names of the tables of a complete store.

    Raises sqlite3.OperationalError if the file cannot be opened now, for example because it is locked.
    """
    if not file.exists():
        return Condition("it does not exist", exists=False)
    if not file.stat().st_size:
        return Condition("it is empty")
    try:
        with closing(sqlite3.connect(file)) as database:
            existing = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            versions = _rows(database, VERSION_TABLE, existing)
            has_runs = _rows(database, "runs", existing) > 0
    except sqlite3.OperationalError:  # such as a lock; the file may be complete
        raise
    except sqlite3.DatabaseError as error:
        return Condition(f"it cannot be read ({error})", is_readable=False)
    if existing and not existing & {*tables, VERSION_TABLE}:
        return Condition("it is a database of another program", is_foreign=True)
    if not existing:
        return Condition("it has no tables")
    if versions != 1:
        return Condition(f"its set-up did not end (no row in {VERSION_TABLE})")
    if missing := sorted(tables - existing):
        return Condition(f"its set-up did not end (no table {missing[0]})", has_runs=has_runs)
    return Condition(has_runs=has_runs)


def prepare(file: Path, tables: Set[str], build: Callable[[str], None], is_own: bool, renew: str = "") -> str:
    """Make sure that a file is a complete store. Return one line about a file that was set aside, or an empty text.

    `build` makes or upgrades the store at an address and closes it. A file that SQLite cannot read is set aside only if
    `is_own`, that is, if its name was not given by the user. With `renew`, which is a problem that MLflow has with the
    file, the file is replaced in any case. The caller holds the lock of the store.

    Raises an error of SQLite, of MLflow or of the file system.
    """
    condition = Condition(renew) if renew else examine(file, tables)
    if not condition.problem:
        _use_wal(file)
        return ""
    if condition.is_foreign or not (condition.is_readable or is_own):
        raise sqlite3.DatabaseError(condition.problem)
    draft = file.with_name(f"{file.name}.draft")
    _remove(draft)
    try:
        if condition.has_runs:
            with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(draft)) as copy:
                source.backup(copy)
        else:
            _use_wal(draft)
        build(sqlite_uri(draft))
        if condition.has_runs and examine(draft, tables).problem:
            _remove(draft)
            _use_wal(draft)
            build(sqlite_uri(draft))
        elif condition.has_runs:
            condition = Condition(exists=False)
        _close(draft)
        note = _set_aside(file, condition)
        draft.replace(file)
    finally:
        _remove(draft)
    _flush_folder(file.parent)
    return note


def _rows(database: sqlite3.Connection, table: str, existing: Set[str]) -> int:
    """Return 0, 1 or 2: whether a table has no, one or more rows."""
    if table not in existing:
        return 0
    return len(database.execute(f"SELECT 1 FROM {table} LIMIT 2").fetchall())


def _use_wal(file: Path) -> None:
    """Set the journal mode in which several processes can read and write a database at once."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode=WAL")


def _close(file: Path) -> None:
    """Write everything that is in the files beside a database into the database, and remove these files."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in SIDE_FILES:
        Path(f"{file}{suffix}").unlink(missing_ok=True)
    with file.open("rb+") as content:
        os.fsync(content.fileno())


def _set_aside(file: Path, condition: Condition) -> str:
    """Rename a broken file and the files beside it. Return one line about it, or an empty text if there was no file."""
    number = 1
    while any(file.parent.glob(_escaped(f"{file.name}.broken-{number}") + "*")):
        number += 1
    aside = file.with_name(f"{file.name}.broken-{number}")
    for suffix in SIDE_FILES:  # first, because a new database must never find the journal of another one
        with suppress(FileNotFoundError):
            Path(f"{file}{suffix}").replace(f"{aside}{suffix}")
    if not condition.exists:
        return ""
    file.replace(aside)
    return f"{file}: {condition.problem}; it was renamed to {aside.name} and replaced by a new store: {SYNC}"


def _escaped(name: str) -> str:
    """Return a pattern that matches exactly this name."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _remove(draft: Path) -> None:
    """Remove an unfinished database and the files beside it."""
    for suffix in ("", *SIDE_FILES):
        Path(f"{draft}{suffix}").unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Write the names of the files of a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
