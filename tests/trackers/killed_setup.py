"""Kill the first set-up of a store at chosen points, and open the store again after each.

    python tests/trackers/killed_setup.py [POINTS]

A point is a statement of SQL, or a rename or removal of a file. One process imports MLflow and forks a child for each
set-up, so a point costs about three seconds. Prints the number of points and the points after which the next set-up
failed or left a broken store.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from visionbench.config import TrackingConfig
from visionbench.trackers.mlflow import ENVIRONMENT, MlflowTracker

EVENTS = ("sqlite3.connect", "os.rename", "os.remove")


def open_store(folder: Path) -> None:
    MlflowTracker(TrackingConfig(), folder).open()


def in_child(folder: Path, last: int = 0) -> tuple[int, int]:
    """Open the store in a child that is killed at its point `last`. Return its status and its number of points."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = _open_and_count(folder, last, writer)
        finally:
            os._exit(status)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as counted:
        return os.waitstatus_to_exitcode(status), int(counted.read() or 0)


def _open_and_count(folder: Path, last: int, writer: int) -> int:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    points = 0

    def point(*_: Any) -> None:
        nonlocal points
        points += 1
        if points == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(name: str, arguments: Any) -> None:
        if name in EVENTS and str(folder) in str(arguments[0]):
            point()

    sys.addaudithook(audit)
    event.listen(Engine, "before_cursor_execute", point)
    open_store(folder)
    os.write(writer, str(points).encode())
    return 0


def try_points(wanted: int) -> tuple[int, list[str]]:
    """Kill at `wanted` points, spread over the set-up and with its last points. Return their number and the failures.

    The second value describes each point after which the store was not complete.
    """
    with tempfile.TemporaryDirectory() as folder:
        status, count = in_child(Path(folder, "complete"))
        assert status == 0, "the set-up failed without being killed"
        ends = range(max(1, count - wanted // 2), count + 1)
        step = max(1, count // max(1, wanted - len(ends)))
        chosen = sorted({*range(1, count + 1, step), *ends})
        faults = []
        for last in chosen:
            store = Path(folder, str(last))
            killed, _ = in_child(store, last)
            again, _ = in_child(store)
            if killed != -signal.SIGKILL or again != 0 or (reason := _reason(store)):
                faults.append(f"point {last} of {count}: killed {killed}, then {again} {reason}")
        return len(chosen), faults


def _reason(folder: Path) -> str:
    """Return what is wrong in the folder of a store that was set up after a kill, or an empty text."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        (experiments,) = database.execute("SELECT count(*) FROM experiments WHERE name = 'visionbench'").fetchone()
    left = sorted(path.name for path in folder.iterdir() if "draft" in path.name or "broken" in path.name)
    return "" if experiments == 1 and not left else f"experiments: {experiments}, files: {left}"


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 (imported once, for all children)

    number, failures = try_points(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
    print(f"killed at {number} points; {len(failures)} stores were not complete afterwards")
    print("\n".join(failures))
    sys.exit(1 if failures else 0)
