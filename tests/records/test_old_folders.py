"""Every reader reads folders that version 0.1 wrote with schema 1: one plain run, one of two processes, one that was
interrupted before its model was loaded, and one whose process was killed at batch size 2.

The folders below `schema_1` are real; only host name, system and commit were replaced. Do not write them again.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from visionbench.commands import compare, export, results, summarize, sync
from visionbench.core import INTERRUPTED, KILLED, NOT_RUN, OK, ConfigError
from visionbench.records.folder import RunFolder
from visionbench.report.page import write_report as write
from visionbench.results import archive
from visionbench.results.comparison import Rules
from visionbench.trackers.mlflow.content import params, tags

SWEEP = "2026-01-02_03-04-05"
OLD = Path(__file__).parent / "schema_1"
RUNS = ("plain", "repeated", "interrupted", "killed")


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def run(name):
    return archive.Run.read(RunFolder.open(OLD / SWEEP / name))


def test_every_run_is_read_with_its_rows():
    runs = archive.read(OLD, report=pytest.fail)
    assert {item.folder.path.name for item in runs} == set(RUNS)
    assert {tuple(row.status for row in item.results) for item in runs} == {
        (OK, OK, OK),
        (OK, OK),
        (INTERRUPTED, INTERRUPTED, INTERRUPTED),
        (OK, KILLED, NOT_RUN),
    }


def test_the_facts_that_a_filter_takes_are_known():
    facts = run("plain").facts()
    assert set(facts) == set(archive.FACTS)
    assert (facts["model"], facts["family"], facts["precision"]) == ("clip_tiny", "dual_encoder", "fp32")
    assert (facts["host"], facts["git_commit"], facts["threads"]) == ("box", "5c2e" * 10, "1")
    assert run("interrupted").facts()["threads"] == archive.UNKNOWN


@pytest.mark.parametrize("name", ["plain", "repeated", "killed"])
def test_summarize_computes_the_same_metrics_again(name, capsys):
    assert summarize.show(OLD / SWEEP / name) == 0
    assert "all as reported" in " ".join(capsys.readouterr().out.split())


def test_results_lists_the_runs(capsys):
    assert results.show(SWEEP, OLD, "", True, None, True) == 0
    listed = json.loads(capsys.readouterr().out)
    assert sorted(entry["status"] for entry in listed["runs"]) == ["failed", "finished", "finished", "interrupted"]
    assert results.show(None, OLD, "model=clip_tiny", False, None, False) == 0
    assert SWEEP in capsys.readouterr().out


def test_export_has_a_row_for_each_case(tmp_path):
    assert export.write(SWEEP, OLD, "", "parquet", tmp_path / "cases.parquet") == 0
    frame = pd.read_parquet(tmp_path / "cases.parquet")
    assert len(frame) == 11
    assert set(frame["processes"].dropna()) == {1, 2}
    assert set(frame["device_name"].dropna()) == {"Intel(R) Xeon(R) Processor"}


def test_compare_finds_a_run_equal_to_its_copy(tmp_path, capsys):
    sources = compare.Sources(OLD, None, "visionbench", None)
    copied = shutil.copytree(OLD / SWEEP / "plain", tmp_path / "copy")
    content = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(content | {"uid": "another"}))
    sides = (str(OLD / SWEEP / "plain"), str(copied))
    assert compare.show(*sides, sources, Rules(), compare.Output("json"), accept_undecided=True) == 0
    assert "regression" not in json.loads(capsys.readouterr().out)["counts"]


def test_a_run_is_not_compared_with_itself():
    sources = compare.Sources(OLD, None, "visionbench", None)
    sides = (str(OLD / SWEEP / "plain"), str(OLD / SWEEP / "plain"))
    with pytest.raises(ConfigError, match="are the same run, so nothing can be compared"):
        compare.show(*sides, sources, Rules(), compare.Output("json"))


def test_compare_reads_a_run_that_has_no_numbers(capsys):
    sources = compare.Sources(OLD, None, "visionbench", None)
    sides = (str(OLD / SWEEP / "plain"), str(OLD / SWEEP / "interrupted"))
    assert compare.show(*sides, sources, Rules(), compare.Output("text")) == 3
    assert "3 not comparable" in capsys.readouterr().out


@pytest.mark.parametrize("name", RUNS)
def test_mlflow_gets_params_and_tags(name):
    item = run(name)
    assert params(item.record)["model"] == item.model
    assert tags(item.record, item.results)["visionbench.host"] == "box"


def test_the_report_has_every_run(tmp_path):
    page, *_ = write(archive.of_folder(OLD), "en", tmp_path)
    text = page.read_text("utf-8")
    assert "clip_tiny · cpu · fp32" in text and "own · cpu · fp32" in text


def test_sync_sends_every_run(tmp_path, capsys):
    shutil.copytree(OLD, tmp_path / "old")
    assert sync.send(tmp_path / "old", None, "lab") == 0
    assert capsys.readouterr().out.startswith("4 runs in ")


def test_the_terminal_shows_every_run(capsys):
    from visionbench.terminal import table

    runs = archive.read(OLD)
    table.show(runs, Console(width=200))
    printed = capsys.readouterr().out
    assert all(run.model in printed for run in runs)
    table.show(runs, Console(width=200), verbose=True)
    printed = capsys.readouterr().out
    assert all(f"{run.model} · {run.record.plan.device} · {run.record.plan.precision}" in printed for run in runs)
