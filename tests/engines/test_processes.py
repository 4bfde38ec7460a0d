"""Jobs in processes of this machine: their cores, their order, and the ends of jobs that fail."""

import os
import signal
import threading
from functools import partial
from pathlib import Path

import pytest

from visionbench.core import ConfigError
from visionbench.engines import Job
from visionbench.engines.cores import Core, Cores
from visionbench.engines.processes import Processes, supervise


def four_cores():
    return Cores(tuple(Core(frozenset({number})) for number in range(4)))


def job(number, call=None, device=None, threads=None):
    return Job(number, f"run {number}", Path(), call, device, threads)


# ------------------------------------------------------------------------------- functions of jobs, in other processes
def report_cores(path, beside):
    path.write_text(",".join(map(str, sorted(os.sched_getaffinity(0)))))
    print("measuring")
    return 0


def end_by(action, beside):
    if action == "raise":
        raise RuntimeError("the disk is full")
    if action == "exit":
        os._exit(3)
    if action == "hang":
        threading.Event().wait()
    if action == "code":
        return 2
    os.kill(os.getpid(), signal.SIGKILL)


def run(jobs, **options):
    lines = []
    return {job.number: end for job, end in Processes(**options).run(jobs, lines.append)}, lines


# --------------------------------------------------------------------------------------------------------- scheduling
class Running:
    def __init__(self, job):
        self.job = job


@pytest.mark.parametrize(
    ("devices", "startable"),
    [
        (["cuda:0", "cuda:1", "cuda:0", "cuda:1"], [0, 1]),
        (["cuda:0", "cuda:0", "cuda:2"], [0, 2]),
        ([None, None], [0]),
    ],
)
def test_jobs_start_if_no_other_job_uses_their_gpu_or_their_cores(devices, startable):
    jobs = [job(number, device=device) for number, device in enumerate(devices)]
    engine = Processes(parallel=True, cores=four_cores())
    assert [each.number for each in engine._startable(jobs, [])] == startable


def test_a_job_on_a_gpu_gets_an_equal_share_of_the_cores():
    jobs = [job(number, device=f"cuda:{number % 2}") for number in range(6)]
    engine = Processes(parallel=True, cores=four_cores())
    assert [engine.cores_of(each, jobs) for each in jobs] == [2] * 6


def test_a_job_without_a_number_of_threads_uses_all_cores_and_runs_alone():
    engine = Processes(parallel=True, cores=four_cores())
    jobs = [job(0), job(1, threads=1)]
    assert engine.cores_of(jobs[0], jobs) == 4
    assert engine.beside(jobs[0], jobs) == ""


def test_a_job_waits_for_enough_cores_and_later_jobs_do_not_overtake_it():
    engine = Processes(parallel=True, cores=four_cores())
    jobs = [job(0, threads=3), job(1, threads=2), job(2, threads=1)]
    assert engine._startable(jobs, []) == jobs[:1]


def test_a_sequential_engine_starts_one_job():
    engine = Processes(cores=four_cores())
    assert engine._startable([job(0, threads=1), job(1, threads=1)], []) == [job(0, threads=1)]
    assert engine._startable([job(1, threads=1)], [Running(job(0, threads=1))]) == []


@pytest.mark.parametrize(
    ("jobs", "count"),
    [
        ([job(0, threads=1), job(1, threads=1)], "1 other run "),
        ([job(number, threads=1) for number in range(9)], "3 other runs "),
        ([job(0, device="cuda:0"), job(1, device="cuda:0"), job(2, device="cuda:1")], "1 other run "),
    ],
)
def test_the_rows_state_how_many_runs_may_run_at_the_same_time(jobs, count):
    assert f"up to {count}" in Processes(parallel=True, cores=four_cores()).beside(jobs[0], jobs)


def test_nothing_runs_beside_jobs_of_one_gpu():
    jobs = [job(number, device="cuda:0") for number in range(3)]
    assert Processes(parallel=True, cores=four_cores()).beside(jobs[0], jobs) == ""


def test_more_threads_than_cores_are_refused():
    with pytest.raises(ConfigError, match=r"^device.threads=5: runs at the same time have separate cores"):
        Processes(parallel=True, cores=four_cores()).check([None, 5])


# ------------------------------------------------------------------------------------------------------ real processes
def test_parallel_jobs_have_disjoint_cores(tmp_path):
    count = min(2, len(os.sched_getaffinity(0)))
    jobs = [job(number, partial(report_cores, tmp_path / str(number)), threads=1) for number in range(count + 1)]
    ends, lines = run(jobs, parallel=True)
    assert {end.exit_code for end in ends.values()} == {0}
    sets = [set((tmp_path / str(number)).read_text().split(",")) for number in range(count)]
    assert all(sets) and len(set.union(*sets)) == sum(map(len, sets))
    assert sorted(lines) == [f"[{number + 1}/{count + 1}] measuring" for number in range(count + 1)]


def test_each_failed_job_has_a_reason_and_the_others_continue(tmp_path):
    actions = ["raise", "kill", "exit", "code"]
    jobs = [job(number, partial(end_by, action), threads=1) for number, action in enumerate(actions)]
    jobs.append(job(4, partial(report_cores, tmp_path / "cores"), threads=1))
    ends, _ = run(jobs, parallel=True)
    assert {number: (end.exit_code, end.reason) for number, end in ends.items()} == {
        0: (1, "RuntimeError: the disk is full"),
        1: (1, "the process of the run was killed by SIGKILL; the system's out-of-memory killer does this"),
        2: (1, "the process of the run ended by itself with exit code 3"),
        3: (2, ""),
        4: (0, ""),
    }


def test_a_job_that_hangs_ends_at_its_time_limit(tmp_path):
    ends, _ = run([job(0, partial(end_by, "hang"))], timeout_min=1e-3)
    assert (ends[0].exit_code, ends[0].reason) == (1, "the time limit of 0.001 min was exceeded")


def test_a_supervised_call_returns_its_end(capfd):
    assert supervise(partial(end_by, "kill"), "").reason.startswith("the process of the run was killed by SIGKILL")
    assert supervise(partial(end_by, "code"), "").exit_code == 2


def test_an_interrupt_interrupts_each_job_once(tmp_path):
    engine, jobs = Processes(), [job(0, partial(wait_for_interrupt, tmp_path / "interrupted"))]

    def interrupt(line):
        if line == "waiting":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(engine.run(jobs, interrupt))
    assert (tmp_path / "interrupted").read_text() == "KeyboardInterrupt"


def wait_for_interrupt(path, beside):
    try:
        print("waiting", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt as interrupt:
        path.write_text(type(interrupt).__name__)
        raise
