"""`visionbench report --wait`: it reads the files until no run is pending, with a limit of time."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from click.testing import CliRunner
from saved_runs import run, save, speed

from visionbench.cli import cli
from visionbench.commands import report
from visionbench.commands.report import Waiting
from visionbench.core import ConfigError
from visionbench.records.process import current
from visionbench.records.sweep import PlannedRun, SweepRecord


def of(*statuses):
    return [run(speed(1.0), name=f"m{number}", status=status) for number, status in enumerate(statuses)]


class Time:
    """A clock that only pauses advance."""

    def __init__(self):
        self.now, self.pauses = 0.0, []

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def waiting(self, timeout=None):
        return Waiting(timeout, self.pause, lambda: self.now)


def reading(*states) -> Iterator[object]:
    """Return a function that returns one state after the other."""
    remaining = iter(states)
    return lambda: next(remaining)


def test_waiting_ends_when_no_run_is_pending_and_names_the_missing_runs_when_they_change(capsys):
    time = Time()
    states = [of("running", "pending"), of("running", "pending"), of("finished", "running"), of("finished", "lost")]
    time.waiting().wait(reading(*states))
    assert len(time.pauses) == 3
    assert capsys.readouterr().err.splitlines() == [
        "visionbench: waiting for 2 of 2 runs: m0 · cpu · fp32, m1 · cpu · fp32",
        "visionbench: waiting for 1 of 2 runs: m1 · cpu · fp32",
    ]


def test_waiting_ends_after_the_timeout(capsys):
    time = Time()
    time.waiting(timeout=3).wait(lambda: of("running"))
    assert time.pauses == [2.0, 1.0]
    assert capsys.readouterr().err.splitlines()[-1] == (
        "visionbench: --timeout 3: the report is written without these runs"
    )


def test_a_slow_reading_has_long_pauses():
    time = Time()

    def read():
        time.now += 1.0
        return of("running" if time.now < 2 else "finished")

    time.waiting().wait(read)
    assert time.pauses == [10.0]


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Write a sweep with a finished run and a run that has not started. The report itself is not written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "write_report", lambda *_: [])
    folder = save(tmp_path / "outputs" / "s" / "a", speed(1.0), sweep="s", name="a")
    plan = folder.record().plan
    config = "model: {family: f, weights: pretrained}\ndata: {name: shapes}\n"
    runs = [PlannedRun("a", plan, config=config), PlannedRun("b", replace(plan, name="b · cpu · fp32"), config=config)]
    SweepRecord.start("s", runs).write(tmp_path / "outputs" / "s")
    return tmp_path / "outputs" / "s"


def test_a_run_that_has_not_ended_is_exit_code_1_after_the_timeout(sweep):
    done = CliRunner().invoke(cli, ["report", "s", "--wait", "--timeout", "0"], standalone_mode=False)
    assert done.exception is None and done.return_value == 1
    assert "waiting for 1 of 2 runs: b · cpu · fp32" in done.stderr
    assert "1 of 2 runs has not ended, 1 case is not measured yet" in done.stderr


def test_a_lost_run_is_exit_code_1_after_waiting_and_0_without(sweep):
    record = SweepRecord.read(sweep)
    replace(record, process=replace(current(), started=1)).write(sweep)
    done = CliRunner().invoke(cli, ["report", "s", "--wait"], standalone_mode=False)
    assert done.exception is None and done.return_value == 1
    assert done.stderr == "visionbench: 1 of 2 runs never started: b · cpu · fp32\n"
    assert CliRunner().invoke(cli, ["report", "s"], standalone_mode=False).return_value == 0


def test_complete_runs_are_exit_code_0_after_waiting(sweep):
    save(sweep / "b", speed(1.0), sweep="s", name="b")
    done = CliRunner().invoke(cli, ["report", "s", "--wait"], standalone_mode=False)
    assert (done.exception, done.return_value, done.stderr) == (None, 0, "")


def test_a_timeout_without_waiting_is_refused(sweep):
    done = CliRunner().invoke(cli, ["report", "s", "--timeout", "5"], standalone_mode=False)
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == "--timeout 5: it has no effect without --wait; add --wait"
