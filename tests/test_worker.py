"""A generator in a fresh process: its items, its output, its errors, and how it ends."""

import os
import select
import subprocess
import sys

import pytest
import worker_jobs
from command_line import SECONDS, TESTS, fork_server, python_path

from visionbench.core import ConfigError
from visionbench.worker import WorkerDied, WorkerFailed, stream


@pytest.fixture(scope="module", autouse=True)
def server():
    fork_server()


def test_items_arrive_in_order_and_output_goes_to_the_log(tmp_path, capfd):
    assert list(stream(worker_jobs.count, 3, log=tmp_path / "log")) == [0, 1, 2]
    assert (tmp_path / "log").read_text().splitlines() == ["printed on stdout", "printed by a child of the child"]
    assert capfd.readouterr().out == ""


def test_every_run_has_a_separate_process(tmp_path):
    pids = {next(stream(worker_jobs.endless, log=tmp_path / "log")) for _ in range(2)}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_an_error_keeps_its_message_and_leaves_its_traceback_in_the_log(tmp_path):
    items = stream(worker_jobs.raises, log=tmp_path / "log")
    assert next(items) == 1
    with pytest.raises(WorkerFailed, match=r"^ValueError: the second item cannot be had$"):
        next(items)
    assert "Traceback" in (tmp_path / "log").read_text()


def test_a_config_error_in_the_process_is_raised_as_a_config_error(tmp_path):
    items = stream(worker_jobs.refuses, log=tmp_path / "log")
    next(items)
    with pytest.raises(ConfigError, match="no such part"):
        next(items)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("SIGKILL", "killed by SIGKILL; the system's out-of-memory killer does this"),
        ("SIGSEGV", "killed by SIGSEGV"),
        ("exit", "ended by itself with exit code 7"),
    ],
)
def test_the_message_of_a_process_that_died_has_its_signal_or_exit_code(tmp_path, how, message):
    items = stream(worker_jobs.dies, how, log=tmp_path / "log")
    next(items)
    with pytest.raises(WorkerDied) as death:
        next(items)
    assert str(death.value).endswith(message)


def test_closing_the_stream_ends_the_process(tmp_path):
    items = stream(worker_jobs.endless, log=tmp_path / "log")
    pid = next(items)
    assert os.path.exists(f"/proc/{pid}")
    items.close()
    assert not os.path.exists(f"/proc/{pid}")


def test_after_an_item_that_is_ahead_the_process_continues_without_a_reply(tmp_path):
    log = tmp_path / "log"
    os.mkfifo(log)
    output = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    items = stream(worker_jobs.goes_on, log=log)
    assert next(items).ahead
    assert select.select([output], [], [], SECONDS)[0]
    os.set_blocking(output, True)
    with os.fdopen(output) as lines:
        assert lines.readline() == "continued\n"
        assert list(items) == [2]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux can wait for a process that is not a child")
def test_the_process_ends_with_its_parent_even_if_the_parent_is_killed_during_a_stage(tmp_path):
    log = tmp_path / "log"
    os.mkfifo(log)
    code = (
        "import pathlib, sys, worker_jobs; from visionbench.worker import stream; "
        "next(stream(worker_jobs.never_answers, log=pathlib.Path(sys.argv[1])))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, log], env={**os.environ, "PYTHONPATH": python_path(TESTS)})
    with log.open() as output:
        child = os.pidfd_open(int(output.readline()))
    parent.kill()
    parent.wait()
    assert select.select([child], [], [], SECONDS)[0]
    os.close(child)
