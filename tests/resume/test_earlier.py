"""The sweep that is continued: found by its id, its folder or as the latest; running and locked sweeps are refused."""

import os
import platform
from dataclasses import replace

import pytest
from saved_runs import row, save

from visionbench.core import ConfigError
from visionbench.records import process
from visionbench.records.folder import RunFolder
from visionbench.records.sweep import PlannedRun, SweepRecord
from visionbench.resume import folders
from visionbench.resume.earlier import EarlierSweep

OLD, NEW = "2026-01-02_03-04-05", "2026-01-03_03-04-05"


@pytest.fixture
def output(tmp_path):
    for sweep, started_at in ((OLD, "2026-01-02T03:04:05.000+00:00"), (NEW, "2026-01-03T03:04:05.000+00:00")):
        save(tmp_path / sweep / "0_clip", row(), sweep=sweep, started_at=started_at)
    return tmp_path


def write_sweep(folder, words=("visionbench", "--multirun", "model=clip_tiny"), **more):
    plan = RunFolder(folder / "0_clip").record().plan
    record = SweepRecord(folder.name, "2026-01-02T03:04:05.000+00:00", (PlannedRun("0_clip", plan),), words)
    replace(record, **more).write(folder)


@pytest.mark.parametrize(("name", "folder"), [("latest", NEW), (OLD, OLD), (NEW, NEW)])
def test_a_sweep_has_an_id_and_the_latest_a_name(output, name, folder):
    sweep = EarlierSweep.find(output, name)
    assert (sweep.folder, sweep.id, len(sweep.runs)) == (output / folder, folder, 1)


def test_a_folder_is_a_sweep(output):
    assert EarlierSweep.find(output / "elsewhere", str(output / OLD)).id == OLD


def test_the_latest_sweep_may_have_no_run(output):
    plan = RunFolder(output / OLD / "0_clip").record().plan
    (output / "2026-02-01").mkdir()
    SweepRecord("2026-02-01", "2026-02-01T00:00:00.000+00:00", (PlannedRun("0_x", plan),), ()).write(
        output / "2026-02-01"
    )
    sweep = EarlierSweep.find(output, "latest")
    assert (sweep.id, sweep.runs, sweep.several) == ("2026-02-01", (), True)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("2026-01-03_03-04-06", f"; did you mean '{NEW}'?"),
        ("mine", f"; there are: {NEW}, {OLD}"),
    ],
)
def test_an_unknown_sweep_is_refused_with_the_ids_that_exist(output, name, ending):
    with pytest.raises(ConfigError) as caught:
        EarlierSweep.find(output, name)
    assert str(caught.value) == f"resume={name}: no such sweep in {output}{ending}"


def test_jobs_that_write_their_own_records_are_one_sweep(output):
    folder = RunFolder(output / NEW / "0_clip")
    plan = folder.record().plan
    SweepRecord(NEW, "2026-03-01T00:00:00.000+00:00", (PlannedRun(".", plan),)).write(folder.path)
    sweep = EarlierSweep.find(output, "latest")
    assert (sweep.folder, sweep.several) == (output / NEW, True)


def test_an_empty_folder_has_no_sweep(tmp_path):
    with pytest.raises(ConfigError, match="has no sweep; measure something first"):
        EarlierSweep.find(tmp_path, "latest")
    with pytest.raises(ConfigError, match="does not exist; measure something first"):
        EarlierSweep.find(tmp_path / "none", "latest")


def test_the_command_of_the_sweep_is_repeated(output):
    write_sweep(output / OLD)
    assert EarlierSweep.find(output, OLD).words() == ["--multirun", "model=clip_tiny"]


def test_a_command_that_is_not_stored_must_be_repeated(output):
    write_sweep(output / OLD, ())
    with pytest.raises(ConfigError, match="repeat the command with resume=… added"):
        EarlierSweep.find(output, OLD).words()


def test_a_run_that_is_being_measured_is_refused(output):
    folder = RunFolder(output / OLD / "0_clip")
    host = replace(folder.record().host, name=platform.node(), values={"host": platform.node()})
    running = replace(folder.record(), status="running", process=process.current(), host=host)
    folder.write_record(running)
    with pytest.raises(ConfigError, match=f"is still being measured \\(process {os.getpid()}\\); wait until it has"):
        EarlierSweep.find(output, OLD).refuse_running()
    assert running.process is not None
    folder.write_record(replace(running, process=replace(running.process, started=1)))
    EarlierSweep.find(output, OLD).refuse_running()


def test_a_command_that_measures_other_runs_of_the_sweep_is_refused(output):
    write_sweep(output / OLD, process=process.current(), host=platform.node())
    with pytest.raises(ConfigError, match=f"^resume={OLD}: {OLD} is still being measured"):
        EarlierSweep.find(output, OLD).refuse_running()


def test_two_commands_do_not_continue_a_sweep_at_once(output):
    first, second = EarlierSweep.find(output, OLD), EarlierSweep.find(output, OLD)
    with first.lock(), pytest.raises(ConfigError, match="another command resumes this sweep now"), second.lock():
        pass
    with second.lock():
        pass


def test_a_row_that_cannot_be_read_is_no_result(output):
    path = output / OLD / "0_clip" / "results.jsonl"
    path.write_text(path.read_text()[:-20])
    assert EarlierSweep.find(output, OLD).runs[0].row(1, "batch-1") is None


def test_the_rows_of_an_emptied_run_stay_in_a_file_beside_it(output):
    path = output / OLD / "0_clip"
    rows = (path / "results.jsonl").read_text()
    folders.empty(path)
    assert sorted(file.name for file in path.glob("*.json*")) == ["results.earlier-1.jsonl"]
    assert (path / "results.earlier-1.jsonl").read_text() == rows


def test_a_case_that_another_run_measures_leaves_the_plan(output):
    folder = RunFolder(output / OLD / "0_clip")
    record = folder.record()
    (case,) = record.plan.cases
    lost = replace(case, id="batch-2")
    folder.write_record(replace(record, status="running", plan=replace(record.plan, cases=(case, lost))))
    folders.remove_from_plan(folder.path, {"batch-2"})
    assert (folder.record().status, folder.record().plan.cases) == ("finished", (case,))
