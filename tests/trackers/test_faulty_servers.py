"""Tracking servers that do not answer, answer slowly or refuse: no result is lost, and no command is blocked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import FEW_CALLS, call
from faulty_server import BLOCKING, REFUSING, serve
from saved_runs import save, speed

from visionbench.commands import sync, ui
from visionbench.core import ConfigError

ENDED = "results are safe in the run folder; send them later with visionbench sync"
SHORT_RUN = [*FEW_CALLS, "batch=single", "metrics=[latency]", "tracking.timeout_seconds=1"]
QUICK_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    save(folder / "run", speed(5.0))
    return folder


@pytest.mark.parametrize("kind", ["trickle", "never"])
def test_a_run_is_measured_and_ends_although_the_server_blocks(tmp_path: Path, kind: str) -> None:
    with serve(kind) as uri:
        done = call(tmp_path, "run", *SHORT_RUN, f"tracking.uri={uri}", **QUICK_RETRIES)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"visionbench: tracking: no answer within 1 s; {ENDED}\n"
    assert "view" not in done.stdout
    [record] = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/run.json")]
    assert record["status"] == "finished"


REASONS = {
    "status_500": "the server has a fault (status 500)",
    "status_401": "the server refused the request (status 401)",
    "status_403": "the server refused the request (status 403)",
    "redirect_loop": "the server redirects each request",
    "html": "the server is not MLflow (its answer is not JSON)",
    "no_http": "the server is not a web server",
    "cut": "the connection was cut",
}


@pytest.mark.parametrize("kind", REFUSING)
def test_the_reason_of_a_server_that_refuses_is_one_short_line(
    output_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for name, value in QUICK_RETRIES.items():
        monkeypatch.setenv(name, value)
    with serve(kind) as uri:
        with pytest.raises(ConfigError) as caught:
            sync.send(output_dir, uri, "lab")
        assert str(caught.value) == f"tracking.uri={uri}: {REASONS[kind]}; {ENDED}"
        with pytest.raises(ConfigError) as caught:
            ui.serve(output_dir, uri, "lab", 5000, browser=False)
        assert str(caught.value) == f"tracking.uri={uri}: {REASONS[kind]}"


@pytest.mark.parametrize("kind", BLOCKING)
def test_sync_and_ui_end_with_one_line_although_the_server_blocks(output_dir: Path, kind: str) -> None:
    with serve(kind) as uri:
        for words in (("sync",), ("ui", "--no-browser")):
            options = ("--output-dir", str(output_dir), "--uri", uri, "--timeout-seconds", "1")
            done = call(output_dir, *words, *options, **QUICK_RETRIES)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
            assert done.stderr.startswith(f"visionbench: tracking.uri={uri}: no answer within 1 s; ")


def test_a_proxy_that_does_not_answer_is_a_server_that_does_not_answer(output_dir: Path) -> None:
    with serve("never") as proxy:
        options = ("--output-dir", str(output_dir), "--uri", "http://mlflow.example", "--timeout-seconds", "1")
        done = call(output_dir, "sync", *options, http_proxy=proxy, no_proxy="", NO_PROXY="", **QUICK_RETRIES)
    assert done.returncode == 2
    assert done.stderr.startswith("visionbench: tracking.uri=http://mlflow.example: no answer within 1 s")


def test_a_name_server_that_does_not_answer_does_not_block_the_command(output_dir: Path) -> None:
    code = (
        "import socket, threading, sys\n"
        "socket.getaddrinfo = lambda *_, **__: threading.Event().wait()\n"
        "from visionbench.cli import main\n"
        "main()\n"
    )
    words = ["sync", "--output-dir", output_dir, "--uri", "http://mlflow.example", "--timeout-seconds", "1"]
    without_proxy = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120, env=without_proxy
    )
    assert done.returncode == 2
    assert done.stderr.startswith("visionbench: tracking.uri=http://mlflow.example: no answer within 1 s")
