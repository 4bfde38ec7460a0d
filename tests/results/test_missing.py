"""Sentences about runs that never started, lost runs and cases, and cases that are not measured yet."""

from dataclasses import replace
from platform import node

from saved_runs import record, speed

from visionbench.core import LOST, Case, CaseResult
from visionbench.records.folder import RunFolder
from visionbench.records.record import ModelIdentity
from visionbench.records.sweep import SweepRecord
from visionbench.results import gate, missing
from visionbench.results.archive import NEVER_STARTED, NO_ROW, Run, complete
from visionbench.results.comparison import compare

SECOND = Case("batch-2", 2, (), ())


def run(status, measured=1, reason=NO_ROW, **more):
    """Return a run of two planned cases, of which the first ones were measured."""
    planned = [speed(10.0), speed(10.0, case=SECOND)]
    one = record(status=status, cases=[row.case for row in planned], **more)
    rows = complete(one, planned[:measured])
    return Run(one, [replace(row, reason=reason) if row.status == LOST else row for row in rows])


def test_complete_runs_have_no_sentence():
    assert list(missing.sentences([run("finished", 2), run("failed", 2), run("interrupted", 2)])) == []


def test_runs_that_never_started_are_counted_and_named():
    runs = [run("finished", 2), *(run("lost", 0, NEVER_STARTED, name=f"m{number}") for number in range(4))]
    assert list(missing.sentences(runs)) == [
        "4 of 5 runs never started: m0 · cpu · fp32, m1 · cpu · fp32, m2 · cpu · fp32, 1 more"
    ]


def test_a_killed_run_and_a_run_with_lost_rows_have_a_sentence_each():
    assert list(missing.sentences([run("lost", name="killed"), run("failed", name="torn")])) == [
        "1 of 2 runs is lost, because its process ended too early: killed · cpu · fp32",
        "1 of 2 cases of torn · cpu · fp32 is lost",
    ]


def test_several_killed_runs_have_one_sentence_in_the_plural():
    killed = [run("lost", name=name) for name in ("a", "b")]
    (sentence,) = missing.sentences(killed)
    assert sentence.startswith("2 of 2 runs are lost, because their processes ended too early: a · cpu · fp32, b")


def test_a_running_run_has_pending_cases_and_its_host_is_named_if_it_is_another_one():
    here = run("running", host={"host": node()})
    assert list(missing.sentences([here])) == ["the run has not ended, 1 case is not measured yet"]
    there = run("running", host={"host": "another"})
    assert list(missing.sentences([there]))[1:] == [
        "runs on another count as running, because this machine cannot check the processes of another machine"
    ]


def test_the_command_that_continues_a_sweep_is_listed_once_for_runs_at_any_depth(tmp_path):
    lost = run("lost")
    folders = [RunFolder(tmp_path / lost.sweep / name) for name in ("1", "deep/2")]
    commands = missing.resume_commands([replace(lost, folder=folder) for folder in folders])
    assert commands == [f"visionbench run resume={tmp_path / lost.sweep}"]
    assert missing.resume_commands([lost, run("finished", 2)]) == [f"visionbench run resume={lost.sweep}"]


def test_a_row_of_another_case_does_not_replace_a_planned_case():
    one = record(status="lost", cases=[SECOND])
    assert [row.status for row in complete(one, [CaseResult(Case("x", 1, (), ()), "ok")])] == ["ok", "lost"]


def test_a_run_that_never_started_is_compared_with_its_run_in_the_base():
    def side(status):
        runs = []
        for seed in (1, 2):
            config = {"model": {"seed": seed, "attention": "auto", "revision": "main"}}
            loaded = {"weights": "pretrained", "attention": "sdpa", "revision": "f00"}
            one = run(status, 2, config=config, model=loaded, plan={"varied": {"model.seed": str(seed)}})
            runs.append(one)
        return runs

    base = side("finished")
    lost = [
        Run(replace(one.record, model=ModelIdentity(), status="lost"), complete(replace(one.record, status="lost"), ()))
        for one in side("finished")
    ]
    comparison = compare(base, lost)
    assert [row.verdict for row in comparison.rows] == ["failed"] * 4
    assert gate.judge(comparison).exit_code == 1


def test_a_search_is_continued_by_its_own_command(tmp_path):
    lost = run("lost")
    folder = tmp_path / lost.sweep
    folder.mkdir()
    command = ("visionbench", "tune", "model=clip_tiny", "precision=fp32,bf16")
    SweepRecord(lost.sweep, "2026-01-02T03:04:05+00:00", (), command).write(folder)
    commands = missing.resume_commands([replace(lost, folder=RunFolder(folder / "000_fp32_eager"))])
    assert commands == ["visionbench tune model=clip_tiny precision=fp32,bf16"]
