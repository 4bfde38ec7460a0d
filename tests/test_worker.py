import os
import select
import subprocess
import sys

import pytest
import worker_jobs
from command_line import SECONDS, TESTS, fork_server, python_path

from visionbench.registry import ConfigError
from visionbench.worker import WorkerDied, WorkerFailed, stream


@pytest.fixture(scope="module", autouse=True)
def server():
    fork_server()


def test_items_come_back_in_order_and_output_goes_to_the_log(tmp_path, capfd):
    assert list(stream(worker_jobs.count, 3, log=tmp_path / "log")) == [0, 1, 2]
    assert (tmp_path / "log").read_text().splitlines() == ["said on stdout", "said by a child of the child"]
    assert capfd.readouterr().out == ""


def test_every_run_has_a_process_of_its_own(tmp_path):
    pids = {next(stream(worker_jobs.endless, log=tmp_path / "log")) for _ in range(2)}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_an_error_keeps_its_message_and_leaves_its_traceback_in_the_log(tmp_path):
    items = stream(worker_jobs.raises, log=tmp_path / "log")
    assert next(items) == 1
    with pytest.raises(WorkerFailed, match=r"^ValueError: the second item cannot be had$"):
        next(items)
    assert "Traceback" in (tmp_path / "log").read_text()


def test_bad_config_found_by_the_child_is_a_config_error(tmp_path):
    items = stream(worker_jobs.refuses, log=tmp_path / "log")
    next(items)
    with pytest.raises(ConfigError, match="no such part"):
        next(items)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("SIGKILL", "killed by SIGKILL; the system's out-of-memory killer does this"),
        ("SIGSEGV", "killed by SIGSEGV"),
        ("exit", "ended by itself with exit code 7"),
    ],
)
def test_a_child_that_dies_is_told_apart_from_one_that_ends(tmp_path, how, said):
    items = stream(worker_jobs.dies, how, log=tmp_path / "log")
    next(items)
    with pytest.raises(WorkerDied) as death:
        next(items)
    assert str(death.value).endswith(said)


def test_closing_the_stream_ends_the_child(tmp_path):
    items = stream(worker_jobs.endless, log=tmp_path / "log")
    pid = next(items)
    assert os.path.exists(f"/proc/{pid}")
    items.close()
    assert not os.path.exists(f"/proc/{pid}")


def test_after_an_item_that_is_ahead_the_child_goes_on_while_the_parent_has_not_come_back(tmp_path):
    log = tmp_path / "log"
    os.mkfifo(log)
    said = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    items = stream(worker_jobs.goes_on, log=log)
    assert next(items).ahead
    assert select.select([said], [], [], SECONDS)[0]
    os.set_blocking(said, True)
    with os.fdopen(said) as lines:
        assert lines.readline() == "went on\n"
        assert list(items) == [2]


@pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="a process that is not our own child is watched as Linux does"
)
def test_a_child_ends_with_its_parent_even_where_that_is_killed_in_the_midst_of_a_stage(tmp_path):
    log = tmp_path / "log"
    os.mkfifo(log)
    code = (
        "import pathlib, sys, worker_jobs; from visionbench.worker import stream; "
        "next(stream(worker_jobs.never_answers, log=pathlib.Path(sys.argv[1])))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, log], env={**os.environ, "PYTHONPATH": python_path(TESTS)})
    with log.open() as said:
        child = os.pidfd_open(int(said.readline()))
    parent.kill()
    parent.wait()
    assert select.select([child], [], [], SECONDS)[0]
    os.close(child)
