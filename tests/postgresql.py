"""PostgreSQL and an MLflow server on it, both started for one test or one benchmark, on this machine only."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

SECONDS = 120
USER = "postgres"
"""The user that runs PostgreSQL if this process is root, because PostgreSQL refuses to run as root."""


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs, or None if it is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if folders:
        return folders[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


def why_unavailable() -> str:
    """Return why PostgreSQL cannot be started here, or an empty text."""
    if binaries() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if find_spec("psycopg") is None:
        return "psycopg is not installed"
    return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def cluster() -> Iterator[str]:
    """Yield the address of an empty database of a new cluster in a temporary folder."""
    programs = binaries()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="visionbench-postgresql-"))
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:
        entry = pwd.getpwnam(USER)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **as_user}
    data, port = folder / "data", free_port()
    control = [str(programs / "pg_ctl"), "--pgdata", str(data), "--wait"]
    try:
        initdb = [str(programs / "initdb"), "--pgdata", str(data), "--username", "lab", "--auth", "trust"]
        subprocess.run([*initdb, "--encoding", "UTF8", "--locale", "C"], check=True, **quiet)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        start = [*control, "--log", str(folder / "log"), "--options", options, "start"]
        subprocess.run(start, check=True, timeout=SECONDS, **quiet)
        try:
            created = [
                str(programs / "createdb"),
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--username",
                "lab",
                "lab",
            ]
            subprocess.run(created, check=True, **quiet)
            yield f"postgresql+psycopg://lab@127.0.0.1:{port}/lab"
        finally:
            subprocess.run([*control, "--mode", "immediate", "stop"], check=False, **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mlflow_server(store: str, folder: Path, workers: int = 4) -> Iterator[str]:
    """Yield the address of an MLflow server with this store, and with its artifacts below `folder`."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    command += ["--workers", str(workers), "--uvicorn-opts", "--log-level warning"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True)
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(address, server, folder / "server.log")
            yield address
        finally:
            os.killpg(server.pid, 15)
            server.wait(SECONDS)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = monotonic() + SECONDS
    while monotonic() < end and server.poll() is None:
        try:
            with urlopen(f"{address}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            sleep(0.1)
    raise RuntimeError(f"MLflow's server did not start:\n{log.read_text()}")


SEND = """
import sys
from pathlib import Path
from time import perf_counter

from visionbench.config import TrackingConfig
from visionbench.trackers.mlflow import MlflowTracker

uri, output_dir, *folders = sys.argv[1:]
tracker = MlflowTracker(TrackingConfig(uri=uri or None, timeout_seconds=600), Path(output_dir))
tracker.open()
print("ready", flush=True)
sys.stdin.readline()
for folder in folders:
    start = perf_counter()
    tracker.log(Path(folder))
    print(perf_counter() - start, flush=True)
"""
"""A process that opens a store, waits for a line, and sends runs. It prints the seconds of each run."""


def send_at_once(
    uri: str,
    output_dirs: Sequence[Path],
    shares: Sequence[Sequence[Path]],
) -> list[float]:
    """Send the runs of each share in a process of its own, all at the same time. Return the seconds of all runs.

    Each process has an output folder, whose lock it uses.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SEND, uri, str(output_dir), *map(str, share)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for output_dir, share in zip(output_dirs, shares, strict=True)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "a process could not open the store"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    seconds = [float(line) for process in processes for line in process.communicate()[0].split()]
    assert all(process.returncode == 0 for process in processes), "a process could not send a run"
    return seconds
