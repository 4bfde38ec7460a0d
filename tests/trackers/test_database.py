"""The set-up of a local store: interrupted at any point it leaves nothing broken, and a broken file is replaced."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from saved_runs import save, speed

from visionbench.config import TrackingConfig
from visionbench.core import TrackingError
from visionbench.trackers.mlflow import MlflowTracker, database

SCRIPT = Path(__file__).with_name("killed_setup.py")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete store without runs, as one file."""
    folder = tmp_path_factory.mktemp("complete")
    MlflowTracker(TrackingConfig(), folder).open()
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder / "mlflow.db"


@pytest.fixture
def store(complete: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(complete, tmp_path / "mlflow.db"))


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        for statement in statements:
            connection.execute(statement)
            connection.commit()


def number_of_runs(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    return int(count)


def broken_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "broken" in path.name)


def test_a_set_up_that_is_killed_at_any_point_is_repeated_by_the_next_run() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "8"], capture_output=True, text=True)
    assert done.stdout.endswith("0 stores were not complete afterwards\n\n"), done.stdout + done.stderr


BREAKAGES = {
    "no version": ["DELETE FROM alembic_version"],
    "no version table": ["DROP TABLE alembic_version"],
    "a table is missing": ["DROP TABLE latest_metrics"],
    "half-migrated": ["UPDATE alembic_version SET version_num = '451aebb31d03'", "DROP TABLE latest_metrics"],
    "all tables, but an early version": ["UPDATE alembic_version SET version_num = '451aebb31d03'"],
}


@pytest.mark.parametrize("statements", BREAKAGES.values(), ids=list(BREAKAGES))
def test_a_store_whose_set_up_did_not_end_is_set_aside_and_replaced(
    store: Path, capsys: pytest.CaptureFixture[str], statements: list[str]
) -> None:
    change(store, *statements)
    MlflowTracker(TrackingConfig(), store.parent).log(save(store.parent / "run", speed(5.0)).path)
    line = capsys.readouterr().err
    assert line.startswith(f"visionbench: {store}: its set-up did not end")
    assert "it was renamed to mlflow.db.broken-1 and replaced by a new store: visionbench sync sends all runs" in line
    assert line.count("\n") == 1
    assert broken_files(store.parent) == ["mlflow.db.broken-1"]
    assert number_of_runs(store) == 1


@pytest.mark.parametrize("content", [b"", b"not a database at all " * 50], ids=["empty", "text"])
def test_a_file_that_is_no_database_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "mlflow.db").write_bytes(content)
    MlflowTracker(TrackingConfig(), tmp_path).open()
    assert "was renamed to mlflow.db.broken-1" in capsys.readouterr().err
    assert (tmp_path / "mlflow.db.broken-1").read_bytes() == content


def test_a_truncated_store_is_set_aside_with_its_journal(store: Path) -> None:
    for name in ("mlflow.db-wal", "mlflow.db-shm"):
        (store.parent / name).write_bytes(b"journal")
    store.write_bytes(store.read_bytes()[:5000])
    MlflowTracker(TrackingConfig(), store.parent).open()
    assert broken_files(store.parent)[0] == "mlflow.db.broken-1"
    assert database.examine(store, {"runs"}).problem == ""


def test_each_broken_store_keeps_a_name_of_its_own(store: Path) -> None:
    for _ in range(2):
        change(store, "DELETE FROM alembic_version")
        MlflowTracker(TrackingConfig(), store.parent).open()
    assert broken_files(store.parent) == ["mlflow.db.broken-1", "mlflow.db.broken-2"]


def test_the_journal_of_a_removed_store_does_not_change_the_new_store(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db-wal").write_bytes(b"journal of a removed store")
    MlflowTracker(TrackingConfig(), tmp_path).open()
    assert (tmp_path / "mlflow.db.broken-1-wal").read_bytes() == b"journal of a removed store"
    assert database.examine(tmp_path / "mlflow.db", {"runs"}).problem == ""


def test_the_draft_of_a_killed_set_up_is_removed(tmp_path: Path) -> None:
    for suffix in ("", "-wal", "-journal"):
        (tmp_path / f"mlflow.db.draft{suffix}").write_bytes(b"half a store")
    MlflowTracker(TrackingConfig(), tmp_path).open()
    assert not list(tmp_path.glob("*.draft*")) and not broken_files(tmp_path)


def test_a_failed_set_up_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.tracking import sqlalchemy_store

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(sqlalchemy_store, "SqlAlchemyStore", fail)
        with pytest.raises(TrackingError, match="database or disk is full; results are safe"):
            MlflowTracker(TrackingConfig(), tmp_path).open()
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db.lock"]
    MlflowTracker(TrackingConfig(), tmp_path).open()


def test_runs_of_another_version_of_mlflow_are_kept(store: Path, tmp_path: Path) -> None:
    MlflowTracker(TrackingConfig(), store.parent).log(save(store.parent / "run", speed(5.0)).path)
    change(store, "UPDATE alembic_version SET version_num = '451aebb31d03'", "PRAGMA wal_checkpoint(TRUNCATE)")
    moved = tmp_path / "moved" / "mlflow.db"  # MLflow checks the version of an address once in a process
    moved.parent.mkdir()
    shutil.copy(store, moved)
    with pytest.raises(TrackingError, match=r"another version of MLflow wrote it; upgrade it with mlflow db upgrade"):
        MlflowTracker(TrackingConfig(), moved.parent).open()
    assert number_of_runs(moved) == 1 and not broken_files(moved.parent)


def test_runs_of_a_store_that_cannot_be_upgraded_are_set_aside(store: Path) -> None:
    MlflowTracker(TrackingConfig(), store.parent).log(save(store.parent / "run", speed(5.0)).path)
    change(store, "DROP TABLE latest_metrics")
    MlflowTracker(TrackingConfig(), store.parent).open()
    assert number_of_runs(store.parent / "mlflow.db.broken-1") == 1 and number_of_runs(store) == 0


def test_the_database_of_another_program_is_refused_and_stays(tmp_path: Path) -> None:
    change(tmp_path / "mlflow.db", "CREATE TABLE addresses (name TEXT)")
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(TrackingError, match="it is a database of another program"):
        MlflowTracker(TrackingConfig(), tmp_path).open()
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_a_locked_database_is_an_error_and_stays(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(database.sqlite3, "connect", locked)
    with pytest.raises(TrackingError, match="database is locked; results are safe"):
        MlflowTracker(TrackingConfig(), store.parent).open()
    assert store.is_file() and not broken_files(store.parent)


def test_the_lock_file_of_a_killed_process_does_not_matter(store: Path) -> None:
    Path(f"{store}.lock").write_text("")
    MlflowTracker(TrackingConfig(), store.parent).open()


def test_a_folder_that_cannot_be_written_to_is_an_error_with_its_name(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: object, *arguments: int, **options: int) -> int:
        if str(path).endswith(".lock"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(TrackingError, match=r"mlflow\.db\.lock: Permission denied; .*"):
        MlflowTracker(TrackingConfig(), store.parent).open()
