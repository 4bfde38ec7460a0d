"""Measure how long it takes to send runs to MLflow, from one process and from eight processes at the same time.

    python benchmarks/tracking.py [--runs 5] [--processes 1 8]

The stores are a SQLite file in WAL mode, which the processes open themselves, an MLflow server on a SQLite file, and an
MLflow server on PostgreSQL, which is started in a temporary folder if it is installed. Each run has 480 points of
metrics and its files as artifacts. The time of a run includes its figure. The processes of a
server have output folders of their own, as on several hosts. Prints the median and the longest time of a
run, the runs per second of all processes together, and the number of runs that are missing or incomplete afterwards.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import postgresql
from saved_runs import row, save

from visionbench.config import TrackingConfig
from visionbench.core import Case
from visionbench.trackers.mlflow import MlflowTracker

METRICS, SIZES = 40, 12
STAGES = ("warmup", "latency", "throughput")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs that each process sends")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 8], help="numbers of processes")
    args = parser.parse_args()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load before {load}, {METRICS * SIZES} points of metrics a run\n")
    print("| store | processes | runs | median of a run, ms | longest, ms | runs per second | missing |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in ("SQLite file", "server on SQLite", "server on PostgreSQL"):
        if name == "server on PostgreSQL" and (reason := postgresql.why_unavailable()):
            print(f"{name}: {reason}")
            continue
        with tempfile.TemporaryDirectory() as folder, open_store(name, Path(folder)) as uri:
            for processes in args.processes:
                measure(name, uri, Path(folder), processes, args.runs)


@contextmanager
def open_store(name: str, folder: Path) -> Iterator[str]:
    """Yield the address of a prepared store."""
    if name == "SQLite file":
        tracker = MlflowTracker(TrackingConfig(), folder)
        tracker.open()
        yield tracker.uri
    elif name == "server on SQLite":
        with postgresql.mlflow_server(f"sqlite:///{folder / 'server.db'}", folder / "server") as uri:
            yield uri
    else:
        with postgresql.cluster() as store, postgresql.mlflow_server(store, folder / "server") as uri:
            yield uri


def measure(name: str, uri: str, folder: Path, processes: int, runs: int) -> None:
    """Send `runs` runs from each process at the same time, and print a row of the table."""
    outputs = folder / f"outputs-{processes}"
    cases = [Case(f"batch-{2**power}", 2**power, STAGES, ("latency", "throughput")) for power in range(SIZES)]
    rows = [row(case, **{f"made_up_{number}_ms": float(number + 1) for number in range(METRICS)}) for case in cases]
    saved = [save(outputs / f"run-{number}", *rows) for number in range(processes * runs)]
    shares = [[one.path for one in saved[number::processes]] for number in range(processes)]
    places = [folder / (f"host-{number}" if uri.startswith("http") else "lock") for number in range(processes)]
    seconds = postgresql.send_at_once(uri, places, shares)
    tracker = MlflowTracker(TrackingConfig(uri=uri, timeout_seconds=600), folder / "lock")
    stored = tracker._client.search_runs([tracker._experiment_id], max_results=10_000)
    complete = {run.data.tags["visionbench.uid"] for run in stored if run.info.status == "FINISHED"}
    missing = len({one.record().uid for one in saved} - complete)
    busy = sum(seconds) / processes
    print(
        f"| {name} | {processes} | {len(saved)} | {1000 * median(seconds):.0f} | {1000 * max(seconds):.0f} "
        f"| {len(saved) / busy:.1f} | {missing} |",
        flush=True,
    )
    shutil.rmtree(outputs)


if __name__ == "__main__":
    main()
