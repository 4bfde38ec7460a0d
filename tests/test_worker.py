"""A generator in a fresh process: its items, its output, its errors, and how it ends."""

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import warnings
from contextlib import closing
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
import worker_jobs
from command_line import SECONDS, TESTS, fork_server, python_path

from visionbench import worker
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


# ------------------------------------------------------------------------------------------- errors of unusual kinds
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EOFError(), "EOFError"),
        (BrokenPipeError(32, "Broken pipe"), "BrokenPipeError: [Errno 32] Broken pipe"),
        (MemoryError(), "MemoryError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_an_error_of_the_generator_is_never_taken_for_the_end_of_the_process(tmp_path, error, message):
    items = stream(worker_jobs.raises_error, error, log=tmp_path / "log")
    next(items)
    with pytest.raises(WorkerFailed) as failure:
        next(items)
    assert str(failure.value) == message


@pytest.mark.parametrize(("code", "message"), [(0, "exit code 0"), (9, "exit code 9"), ("text", "exit code 1")])
def test_a_generator_that_ends_the_process_is_reported_with_its_exit_code(tmp_path, code, message):
    items = stream(worker_jobs.raises_error, SystemExit(code), log=tmp_path / "log")
    next(items)
    with pytest.raises(WorkerDied, match=f"ended by itself with {message}$"):
        next(items)


def test_an_item_that_cannot_be_pickled_is_named(tmp_path):
    items = stream(worker_jobs.sends_what_cannot_be_pickled, log=tmp_path / "log")
    next(items)
    with pytest.raises(WorkerFailed, match="pickle"):
        next(items)


def test_an_item_that_cannot_be_read_is_named_and_ends_the_process(tmp_path):
    items = stream(worker_jobs.sends_what_cannot_be_read, log=tmp_path / "log")
    next(items)
    [child] = multiprocessing.active_children()
    with pytest.raises(WorkerFailed, match="sent a result that cannot be read"):
        next(items)
    assert not child.is_alive()


def test_a_process_that_ends_within_a_message_has_its_exit_code_in_the_reason(tmp_path):
    items = stream(worker_jobs.dies_within_a_message, log=tmp_path / "log")
    next(items)
    with pytest.raises(WorkerDied, match="ended by itself with exit code 3$"):
        next(items)


# ------------------------------------------------------------------------------------------ the end of the fork server
def kill(pid):
    """Kill a child of this process, and wait until it has ended; its exit status can still be read."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_process_continues_without_its_fork_server_and_the_next_one_has_a_new_server(tmp_path):
    items = stream(worker_jobs.names_its_server, log=tmp_path / "log")
    server = next(items)
    kill(server)
    assert list(items) == [0, 1, 2]
    with closing(stream(worker_jobs.names_its_server, log=tmp_path / "log")) as others:
        assert next(others) != server


def test_a_process_that_dies_without_its_fork_server_is_reported_without_an_invented_exit_code(tmp_path):
    items = stream(worker_jobs.names_its_server, log=tmp_path / "log")
    server = next(items)
    [child] = multiprocessing.active_children()
    kill(server)
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied) as death:
        list(items)
    assert str(death.value) == "the measuring process ended, and so did the fork server; the cause is not known"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux can wait for a process that is not a child")
def test_closing_the_stream_ends_the_process_also_without_its_fork_server(tmp_path):
    items = stream(worker_jobs.endless, log=tmp_path / "log")
    pid = next(items)
    kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]))
    child = os.pidfd_open(pid)
    items.close()
    assert select.select([child], [], [], SECONDS)[0]
    os.close(child)


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_fork_server_that_ends_while_it_starts_a_process_is_started_again_once(tmp_path, monkeypatch, deaths):
    starts, start = [], worker._context.Process.start

    def start_after_deaths(process):
        starts.append(process)
        if len(starts) <= deaths:
            raise EOFError
        start(process)

    monkeypatch.setattr(worker._context.Process, "start", start_after_deaths)
    items = stream(worker_jobs.count, 2, log=tmp_path / "log")
    if deaths == 1:
        assert list(items) == [0, 1]
    else:
        with pytest.raises(WorkerDied, match=r"could not be started, because the fork server ended \(EOFError\)$"):
            next(items)


def test_the_death_of_the_resource_tracker_ends_nothing(tmp_path):
    tracker = resource_tracker._resource_tracker
    items = stream(worker_jobs.count, 3, log=tmp_path / "log")
    assert next(items) == 0
    kill(tracker._pid)
    assert list(items) == [1, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns that it starts the resource tracker again
        assert list(stream(worker_jobs.count, 1, log=tmp_path / "log")) == [0]


def test_the_signals_of_a_terminal_do_not_end_the_process_and_reach_the_parent_afterwards(tmp_path):
    items = stream(worker_jobs.names_its_server, log=tmp_path / "log")
    server = next(items)
    [child] = multiprocessing.active_children()
    for pid in (server, child.pid):
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
    assert list(items) == [0, 1, 2]
    assert not {signal.SIGINT, signal.SIGHUP} & signal.pthread_sigmask(signal.SIG_BLOCK, [])
