"""Runs on disk: search, reading, grouping by sweep and filters; an unreadable run does not affect other runs."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from platform import node

import pytest
from saved_runs import record, row

from visionbench.core import Case, CaseResult, ConfigError, Metrics, RunPlan, Samples
from visionbench.records.folder import RunFolder
from visionbench.records.process import current
from visionbench.records.record import Host, RunRecord
from visionbench.records.sweep import PlannedRun, SweepRecord
from visionbench.results import archive


def write(path, sweep="s", started="2026-01-01T00:00:00.000+00:00", model="clip_tiny", precision="fp32", results=()):
    """Write the folder of a run with the conditions that every run has."""
    folder = RunFolder.create(path, "")
    folder.write_record(
        RunRecord.from_json(
            {
                "uid": path.name,
                "sweep": sweep,
                "started_at": started,
                "status": "finished",
                "git_commit": None,
                "host": {"host": "here"},
                "device": {"device_name": "Xeon", "threads": 4},
                "plan": {
                    "name": f"{model} · cpu · {precision}",
                    "model": model,
                    "task": "classification",
                    "device": "cpu",
                    "precision": precision,
                    "cases": [asdict(result.case) for result in results],
                    "protocol": "standard",
                },
                "config": {
                    "model": {"family": "image_classifier", "weights": "pretrained"},
                    "data": {"name": "shapes"},
                },
            }
        )
    )
    for result in results:
        folder.append(result, Samples())
    return folder


def timed_row(batch_size):
    case = Case(f"batch-{batch_size}", batch_size, ("latency",), ("latency",))
    return CaseResult(case, "ok", metrics=Metrics({"latency_p50_ms": float(batch_size)}))


def uids(runs):
    return [run.record.uid for run in runs]


# -------------------------------------------------------------------------------------------------------------- search
def test_runs_at_any_depth_are_listed_in_the_order_of_their_paths(tmp_path):
    for name in ("b/1_x", "a", "b/0_y"):
        write(tmp_path / name)
    assert [folder.path.relative_to(tmp_path).as_posix() for folder in archive.folders(tmp_path)] == [
        "a",
        "b/0_y",
        "b/1_x",
    ]


def test_the_output_folder_may_be_the_folder_of_a_run(tmp_path):
    write(tmp_path / "a")
    assert [folder.path for folder in archive.folders(tmp_path / "a")] == [tmp_path / "a"]


def test_repeats_are_part_of_their_run(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "a" / "repeats" / "1")
    assert [folder.path for folder in archive.folders(tmp_path)] == [tmp_path / "a"]
    assert [folder.path for folder in archive.folders(tmp_path / "a" / "repeats")] == [tmp_path / "a/repeats/1"]


def test_runs_below_the_folder_of_a_run_are_listed(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "a" / "later")
    assert uids(archive.read(tmp_path)) == ["a", "later"]


def test_copies_in_a_tracking_store_are_not_runs(tmp_path):
    write(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "mlartifacts" / "1" / "copy")
    assert [folder.path for folder in archive.folders(tmp_path)] == [tmp_path / "a"]


def test_a_missing_folder_has_no_runs(tmp_path):
    assert archive.folders(tmp_path / "none") == []


# ------------------------------------------------------------------------------------------------------------- reading
def test_runs_are_read_with_their_rows_in_the_order_of_their_start(tmp_path):
    write(tmp_path / "a", started="2026-01-02T00:00:00.000+00:00", results=[timed_row(8), timed_row(1)])
    write(tmp_path / "b", started="2026-01-01T00:00:00.000+00:00")
    runs = archive.read(tmp_path)
    assert uids(runs) == ["b", "a"]
    assert [row.case.batch_size for row in runs[1].timed] == [1, 8]
    assert runs[1].folder == RunFolder(tmp_path / "a")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: (path / "run.json").write_text('{"uid": "x", "swe'), "is not valid JSON"),
        (lambda path: (path / "run.json").write_text(""), "run.json is empty"),
        (lambda path: (path / "run.json").write_bytes(b"\xff\xfe\x00"), "is not UTF-8 text"),
        (lambda path: (path / "run.json").write_text("{}"), "run.json.uid is missing"),
        (lambda path: (path / "run.json").write_text("3"), "run.json is not an object"),
    ],
    ids=["cut short", "empty", "not text", "no conditions", "not an object"],
)
def test_an_unreadable_run_is_left_out_and_reported_in_one_line(tmp_path, damage, error):
    write(tmp_path / "good")
    write(tmp_path / "bad", results=[timed_row(1)])
    damage(tmp_path / "bad")
    damaged = []
    assert uids(archive.read(tmp_path, damaged.append)) == ["good"]
    (one,) = damaged
    assert one.line.startswith(f"left out {tmp_path / 'bad'}: ") and error in one.line and "\n" not in one.line


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: path.unlink(), "results.jsonl cannot be read (No such file or directory)"),
        (lambda path: path.write_text('{"sch\n{}\n'), "line 1 is not valid JSON"),
        (lambda path: path.write_text(json.dumps({"schema": 99}) + "\n"), "newer visionbench"),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), "is not valid JSON"),
        (lambda path: path.write_text(""), "results.jsonl has no row of 1 of 1 planned cases"),
        (lambda path: path.write_text(path.read_text()[:-9]), "results.jsonl, line 1 was cut short"),
    ],
    ids=["missing", "broken", "newer", "binary", "empty", "cut short"],
)
def test_a_run_whose_rows_cannot_be_read_is_shown_with_lost_cases_and_named(tmp_path, damage, error):
    write(tmp_path / "good")
    write(tmp_path / "bad", results=[timed_row(1)])
    damage(tmp_path / "bad" / "results.jsonl")
    damaged = []
    bad, _ = archive.read(tmp_path, damaged.append)
    assert [(row.status, row.reason) for row in bad.results] == [("lost", archive.NO_ROW)]
    assert bad.record.status == "failed"
    assert [one.path for one in damaged] == [tmp_path / "bad"] and error in damaged[0].reason


def test_a_torn_line_costs_only_its_own_row(tmp_path):
    folder = write(tmp_path / "a", results=[timed_row(1), timed_row(2), timed_row(4)])
    rows = folder.path / "results.jsonl"
    first, second, third = rows.read_text().splitlines()
    rows.write_text("\n".join([first, second[:30], third]) + "\n")
    (run,) = archive.read(tmp_path, lambda _: None)
    assert [(row.case.id, row.status) for row in run.results] == [
        ("batch-1", "ok"),
        ("batch-4", "ok"),
        ("batch-2", "lost"),
    ]


def test_the_last_of_several_rows_of_a_case_counts_and_the_folder_is_named(tmp_path):
    folder = write(tmp_path / "a", results=[timed_row(1)])
    folder.append(replace(timed_row(1), metrics=Metrics({"latency_p50_ms": 9.0})), Samples())
    folder.append(timed_row(64), Samples())
    damaged = []
    (run,) = archive.read(tmp_path, damaged.append)
    assert [row.metrics.values["latency_p50_ms"] for row in run.results] == [9.0, 64.0]
    assert "several rows of batch-1; the last one counts" in damaged[0].reason
    assert "a row of batch-64, which is not planned" in damaged[0].reason


def test_a_run_that_is_left_out_is_reported_on_standard_error(tmp_path, capsys):
    write(tmp_path / "bad")
    (tmp_path / "bad" / "run.json").write_text("{")
    assert archive.read(tmp_path) == []
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("visionbench: left out ") and err.count("\n") == 1


def test_a_folder_with_rows_and_without_a_record_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "killed_at_once", "")
    damaged = []
    assert archive.read(tmp_path, damaged.append) == []
    assert [one.line for one in damaged] == [
        f"left out {tmp_path / 'killed_at_once'}: run.json cannot be read (No such file or directory)"
    ]


# ------------------------------------------------------------------------------------------------------- running, lost
def running(path, process, host=None, rows=(1,)):
    """Write a run that is not finished, with two planned cases and these rows."""
    folder = write(path, results=[timed_row(1), timed_row(2)])
    folder.write_record(
        replace(
            folder.record(), status="running", process=process, host=Host.from_fingerprint({"host": host or node()})
        )
    )
    lines = (path / "results.jsonl").read_text().splitlines(keepends=True)
    (path / "results.jsonl").write_text("".join(lines[: len(rows)]))
    return folder


def statuses(run):
    return run.record.status, [row.status for row in run.results]


def test_a_run_whose_process_runs_has_pending_cases_and_no_damage(tmp_path):
    running(tmp_path / "a", current())
    with (tmp_path / "a" / "results.jsonl").open("a") as file:
        file.write('{"schema": 1, "case"')  # it is being written
    (run,) = archive.read(tmp_path, pytest.fail)
    assert statuses(run) == ("running", ["ok", "pending"])
    assert run.results[1].reason == "not measured yet"


@pytest.mark.parametrize(
    "change",
    [{"started": 1}, {"pid": 2**22 + 5}, {"boot": "an earlier start"}],
    ids=["the number is used again", "the process has ended", "the machine was started again"],
)
def test_a_run_whose_process_has_ended_is_lost(tmp_path, change):
    running(tmp_path / "a", replace(current(), **change))
    (run,) = archive.read(tmp_path, pytest.fail)
    assert statuses(run) == ("lost", ["ok", "lost"])
    assert run.results[1].reason == "the run ended without a row for this case"


CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from visionbench.records.folder import RunFolder
from visionbench.records.process import current
folder = RunFolder(Path(sys.argv[1]))
folder.write_record(replace(folder.record(), process=current()))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_run_of_a_killed_process_is_lost_also_while_it_is_a_zombie(tmp_path):
    folder = running(tmp_path / "a", None)
    words = [sys.executable, "-c", CHILD, str(folder.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        assert statuses(*archive.read(tmp_path, pytest.fail)) == ("running", ["ok", "pending"])
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # the process stays a zombie
        assert statuses(*archive.read(tmp_path, pytest.fail)) == ("lost", ["ok", "lost"])
    assert statuses(*archive.read(tmp_path, pytest.fail)) == ("lost", ["ok", "lost"])


@pytest.mark.parametrize(
    ("process", "host"),
    [(replace(current(), pid=2**22 + 5), "another"), (replace(current(), namespace="pid:[1]"), None), (None, None)],
    ids=["another host", "another container", "an older version"],
)
def test_a_run_whose_process_cannot_be_checked_is_running(tmp_path, process, host):
    running(tmp_path / "a", process, host)
    (run,) = archive.read(tmp_path, pytest.fail)
    assert statuses(run) == ("running", ["ok", "pending"])


# ------------------------------------------------------------------------------------------------- the plan of a sweep
def planned(tmp_path, *names, process=None, ended_at=None):
    """Write the record of a sweep with these runs, each with one case."""
    config = "model: {family: image_classifier, weights: pretrained}\ndata: {name: shapes}\n"
    plans = [
        RunPlan(f"{name} · cpu · fp32", name, "classification", "cpu", "fp32", (timed_row(1).case,)) for name in names
    ]
    runs = [PlannedRun(name, plan, config=config) for name, plan in zip(names, plans, strict=True)]
    sweep = SweepRecord.start("s", runs)
    replace(sweep, process=process or sweep.process, ended_at=ended_at).write(tmp_path)


def test_a_planned_run_that_never_started_is_lost(tmp_path):
    planned(tmp_path, "a", "b", process=replace(current(), started=1))
    write(tmp_path / "a", results=[timed_row(1)])
    by_status = {run.record.status: run for run in archive.read(tmp_path, pytest.fail)}
    assert list(by_status) == ["finished", "lost"]
    assert [(row.case.id, row.status, row.reason) for row in by_status["lost"].results] == [
        ("batch-1", "lost", "the run never started")
    ]
    assert by_status["lost"].name == "b · cpu · fp32"


def test_a_planned_run_of_a_running_sweep_is_pending(tmp_path):
    planned(tmp_path, "a", "b")
    write(tmp_path / "a", results=[timed_row(1)])
    RunFolder.create(tmp_path / "b", "")  # it has just started
    assert [statuses(run) for run in archive.read(tmp_path, pytest.fail)] == [
        ("finished", ["ok"]),
        ("pending", ["pending"]),
    ]


def test_a_planned_run_without_a_record_is_lost_and_named(tmp_path):
    planned(tmp_path, "a", "b", ended_at="2026-01-02T00:00:00+00:00")
    write(tmp_path / "a", results=[timed_row(1)])
    write(tmp_path / "b", results=[timed_row(1)])
    (tmp_path / "b" / "run.json").unlink()
    damaged = []
    lost = archive.read(tmp_path, damaged.append)[-1]
    assert statuses(lost) == ("lost", ["lost"])
    assert [one.path for one in damaged] == [tmp_path / "b"]
    assert lost.results[0].reason == "run.json cannot be read (No such file or directory)"


def test_a_run_without_a_folder_in_a_sweep_that_has_ended_may_have_been_removed(tmp_path):
    planned(tmp_path, "a", ended_at="2026-01-02T00:00:00+00:00")
    (run,) = archive.read(tmp_path, pytest.fail)
    assert [row.reason for row in run.results] == [
        "the run has no results: it never started, or its folder was removed"
    ]


def test_jobs_in_a_queue_are_pending_after_their_command_has_ended(tmp_path):
    planned(tmp_path, "a", "b", process=replace(current(), started=1))
    queued = replace(SweepRecord.read(tmp_path), outlived=True)
    queued.write(tmp_path)
    write(tmp_path / "a", results=[timed_row(1)])
    assert [run.record.status for run in archive.read(tmp_path, pytest.fail)] == ["finished", "pending"]
    assert queued.ended(tmp_path).ended_at is None
    write(tmp_path / "b", results=[timed_row(1)])
    assert queued.ended(tmp_path).ended_at is not None


@pytest.mark.parametrize("file", [".hydra/hydra.yaml", "multirun.yaml"])
def test_a_folder_in_which_no_run_was_planned_is_named_and_no_fault(tmp_path, capsys, file):
    write(tmp_path / "a" / "0")
    for folder, text in (("a", "app_name: visionbench run"), ("b", "app_name: visionbench run"), ("c", "app_name: x")):
        path = tmp_path / folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    damages = archive.Damages()
    assert uids(archive.read(tmp_path, damages)) == ["0"]
    assert capsys.readouterr().err == f"visionbench: left out {tmp_path / 'b'}: no run was planned in it\n"
    assert damages.exit_code(0) == 0


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a")
    write(tmp_path / "b")
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "b":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    damaged = []
    assert uids(archive.read(tmp_path, damaged.append)) == ["a"]
    assert [str(one) for one in damaged] == [f"{tmp_path / 'b'}: the folder cannot be read (Permission denied)"]
    assert archive.read(tmp_path / "none", pytest.fail) == []


def test_repeats_of_a_run_that_lost_its_rows_are_no_runs(tmp_path):
    write(tmp_path / "a" / "repeats" / "1")
    (tmp_path / "a" / "config.yaml").write_text("")
    (run,) = archive.read(tmp_path, pytest.fail)
    assert (run.folder.path, run.record.status) == (tmp_path / "a", "lost")


def test_a_damaged_plan_is_named_and_the_runs_are_read(tmp_path):
    write(tmp_path / "a")
    (tmp_path / "sweep.json").write_text("{")
    damaged = []
    assert uids(archive.read(tmp_path, damaged.append)) == ["a"]
    assert [one.path for one in damaged] == [tmp_path] and "sweep.json" in damaged[0].reason


def test_a_second_command_in_the_same_folder_keeps_the_plan_of_the_first(tmp_path):
    planned(tmp_path, "a", "b")
    first = SweepRecord.read(tmp_path)
    second = SweepRecord.start("s", [replace(first.runs[0], folder="c")]).joined(first)
    assert [run.folder for run in second.runs] == ["a", "b", "c"]


def test_the_plan_of_a_sweep_contains_no_password_of_an_address(monkeypatch):
    monkeypatch.setattr("sys.argv", ["visionbench", "run", "tracking.uri=https://me:secret@host/x"])
    assert SweepRecord.start("s", ()).command == ("visionbench", "run", "tracking.uri=https://host/x")


# -------------------------------------------------------------------------------------------------------------- sweeps
@pytest.fixture
def two_sweeps(tmp_path):
    """An older sweep of two runs in one folder, and a newer sweep of one run in another folder."""
    write(tmp_path / "monday" / "0_a", "monday", "2026-01-01T00:00:01.000+00:00")
    write(tmp_path / "monday" / "1_b", "monday", "2026-01-01T00:00:02.000+00:00", "vit_b16", "bf16")
    write(tmp_path / "elsewhere" / "c", "tuesday", "2026-01-02T00:00:00.000+00:00")
    return tmp_path


def test_a_sweep_is_selected_by_its_id_a_folder_or_latest(two_sweeps):
    assert uids(archive.of_sweep(two_sweeps, "monday")) == ["0_a", "1_b"]
    assert uids(archive.of_sweep(two_sweeps, "tuesday")) == ["c"]
    assert uids(archive.of_sweep(two_sweeps, "latest")) == ["c"]
    assert uids(archive.of_sweep(two_sweeps, str(two_sweeps / "monday" / "1_b"))) == ["1_b"]


def test_the_error_for_an_unknown_sweep_has_the_nearest_name(two_sweeps):
    with pytest.raises(ConfigError, match=r"'mondya': no such sweep in .*; did you mean 'monday'\?"):
        archive.of_sweep(two_sweeps, "mondya")


def test_a_folder_without_runs_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty: no run in this folder"):
        archive.of_sweep(tmp_path, str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="no run in it; measure something first"):
        archive.of_sweep(tmp_path, "latest")
    with pytest.raises(ConfigError, match="no run in it; measure something first"):
        archive.of_folder(tmp_path)


def test_runs_are_grouped_by_sweep_in_the_order_of_their_start(two_sweeps):
    assert [(sweep, uids(runs)) for sweep, runs in archive.sweeps(archive.of_folder(two_sweeps))] == [
        ("monday", ["0_a", "1_b"]),
        ("tuesday", ["c"]),
    ]


# ------------------------------------------------------------------------------------------------------------- filters
def test_a_filter_is_parsed_into_names_and_values():
    assert archive.parse_filter("", "--where") == {}
    assert archive.parse_filter("model=clip_tiny, data=a=b,", "--where") == {"model": "clip_tiny", "data": "a=b"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("model", "--where model: 'model' is not of the form name=value"),
        ("model=", "--where model=: 'model=' is not of the form name=value"),
        ("=x", "--where =x: '=x' is not of the form name=value"),
    ],
)
def test_the_error_for_a_malformed_filter_has_the_remedy(text, error):
    with pytest.raises(ConfigError) as error_info:
        archive.parse_filter(text, "--where")
    assert str(error_info.value).startswith(error)


def test_the_error_for_an_unknown_name_in_a_filter_has_the_nearest_name(two_sweeps):
    with pytest.raises(ConfigError, match=r"^--where modle=x: runs have no 'modle'; did you mean 'model'\?$"):
        archive.select(archive.of_folder(two_sweeps), {"modle": "x"}, "--where modle=x")


def test_a_comma_in_brackets_is_part_of_the_value():
    assert archive.parse_filter("batch.sizes=[1,2],model=a", "--where") == {"batch.sizes": "1,2", "model": "a"}


def test_every_fact_of_a_run_is_a_filter_name(two_sweeps):
    for run in archive.of_folder(two_sweeps):
        assert tuple(run.facts()) == archive.FACTS


def test_a_filter_selects_the_runs_that_have_all_its_values(two_sweeps):
    runs = archive.of_folder(two_sweeps)
    assert uids(archive.choose(runs, {"model": "clip_tiny"})) == ["0_a", "c"]
    assert uids(archive.choose(runs, {"model": "clip_tiny", "sweep": "tuesday"})) == ["c"]
    assert archive.choose(runs, {}) == runs
    assert archive.choose(runs, {"model": "none"}) == []
    assert uids(archive.select(runs, {"threads": "4", "precision": "bf16"}, "--where …")) == ["1_b"]


def test_the_error_for_a_filter_without_a_match_has_the_existing_values(two_sweeps):
    runs = archive.of_folder(two_sweeps)
    with pytest.raises(ConfigError, match=r"--where m: no run has model=clip; there are: clip_tiny, vit_b16$"):
        archive.select(runs, {"threads": "4", "model": "clip"}, "--where m")
    with pytest.raises(ConfigError, match=r"--where m: each of these occurs, but no run has all of them$"):
        archive.select(runs, {"model": "vit_b16", "precision": "fp32"}, "--where m")


def test_a_run_whose_end_is_before_its_start_is_questionable(tmp_path):
    folder = RunFolder.create(tmp_path / "run", "a: 1")
    folder.append(row(latency_p50_ms=1.0), Samples())
    folder.write_record(
        record(started_at="2026-01-02T03:04:05+00:00", ended_at="2026-01-02T02:04:05+00:00", status="finished")
    )
    results = archive.Run.read(RunFolder.open(folder.path)).results
    doubts = [str(reason) for result in results for reason in result.validity.reasons]
    assert doubts == [
        "clock_moved: ended_at (2026-01-02T02:04:05+00:00) is before started_at (2026-01-02T03:04:05+00:00)"
    ]
