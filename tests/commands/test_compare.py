"""`visionbench compare` in automatic checks: every kind of source, the output, and the exit code."""

import json
import subprocess
from pathlib import Path

import command_line as terminal
import pytest
from click.testing import CliRunner
from saved_runs import QUALITY, row, save, speed

from visionbench.cli import cli
from visionbench.config import TrackingConfig
from visionbench.core import INTERRUPTED, ConfigError
from visionbench.trackers.mlflow import MlflowTracker

STEADY = [10.0, 10.1, 9.9, 10.05, 9.95]
SLOWER = [value * 1.2 for value in STEADY]


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """A working folder with three sweeps below outputs/: the base, one that is 20 % slower, and one that is equal."""
    monkeypatch.chdir(tmp_path)
    for sweep, latencies in (("base", STEADY), ("slower", SLOWER), ("same", STEADY)):
        measured(tmp_path / "outputs" / sweep, latencies, sweep=sweep)
    return tmp_path / "outputs"


def measured(path, latencies, **more):
    """A run of five processes with quality."""
    rows = speed(latencies[0]), row(QUALITY, recall_i2t_at_1_fraction=0.5)
    return save(path / "0_clip_tiny_fp32", *rows, across={"latency_p50_ms": latencies}, **more)


def call(*words):
    """The exit code and the output; a ConfigError is raised, which the command prints in one line."""
    done = CliRunner().invoke(cli, ["compare", *map(str, words)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value, done.output


# ---------------------------------------------------------------------------------------------------- exit and format
def test_a_regression_is_exit_code_1(outputs):
    code, printed = call("base", "same")
    assert code == 0
    assert "no regression: 2 same" in printed
    code, printed = call("base", "slower")
    assert code == 1
    assert "regression: 1 slower, 1 same (latency_p50_ms of clip_tiny · cpu · fp32 at batch 1: 1.200×)" in " ".join(
        printed.split()
    )
    assert call("slower", "base")[0] == 0
    assert call("base", "slower", "--threshold", "25%")[0] == 0


def test_strict_fails_if_a_metric_is_undecided(outputs, tmp_path):
    save(tmp_path / "alone", speed(10.0))
    assert call("base", tmp_path / "alone")[0] == 3
    assert call("base", tmp_path / "alone", "--strict")[0] == 1
    assert call("base", "same", "--strict")[0] == 0
    measured(tmp_path / "elsewhere", SLOWER, device={"threads": 1})
    code, printed = call("base", tmp_path / "elsewhere")
    assert code == 3
    assert "not comparable" in printed
    assert (
        call("base", tmp_path / "elsewhere", "--strict")[0] == call("base", tmp_path / "elsewhere", "--force")[0] == 1
    )


def test_an_undecided_comparison_is_exit_code_3_unless_it_is_accepted(outputs, tmp_path):
    save(tmp_path / "alone", speed(10.0))
    code, printed = call("base", tmp_path / "alone")
    assert code == 3
    assert printed.splitlines()[-1].startswith("exit code 3: undecided; no decision about the speed of clip_tiny")
    code, printed = call("base", tmp_path / "alone", "--undecided", "ok")
    assert code == 0
    assert printed.splitlines()[-1].startswith("exit code 0: undecided, which --undecided ok accepts")
    assert call("base", "slower", "--undecided", "ok")[0] == 1
    with pytest.raises(ConfigError, match="--strict with --undecided ok: they contradict each other; use one of them"):
        call("base", "same", "--strict", "--undecided", "ok")


def test_a_run_that_was_stopped_is_not_finished(outputs):
    stopped = row(status=INTERRUPTED, reason="interrupted from the keyboard")
    save(outputs / "stopped" / "0_clip_tiny_fp32", stopped, sweep="stopped", status="interrupted")
    code, printed = call("base", "stopped")
    assert code == 3
    assert "not finished (1 row): candidate interrupted: interrupted from the keyboard" in printed
    assert "failed" not in printed


def test_markdown_begins_with_the_verdict_and_is_written_to_a_file(outputs, tmp_path):
    _, printed = call("base", "slower", "--format", "markdown", "--output", tmp_path / "comment.md")
    assert printed.startswith("**visionbench: regression: 1 slower, 1 same")
    assert "| clip_tiny · cpu · fp32 | 1 | latency_p50_ms | 10 | 12 | 1.200 |" in printed
    assert "<details><summary>1 the same</summary>" in printed
    assert (tmp_path / "comment.md").read_text() == printed


def test_json_has_the_verdict_of_every_metric(outputs):
    document = json.loads(call("base", "slower", "--format", "json")[1])
    assert (document["schema"], document["verdict"], document["counts"]) == (1, "regression", {"slower": 1, "same": 1})
    latency = document["rows"][0]
    assert latency["ratio"] == pytest.approx(1.2)
    assert latency["interval"][0] < 1.2 < latency["interval"][1]
    assert latency["base"] == {"value": pytest.approx(10.0, rel=1e-3), "processes": 5, "validity": "valid"}


def test_a_file_shows_the_text_at_full_width(outputs, tmp_path):
    call("base", "slower", "--output", tmp_path / "table.txt")
    assert "latency_p50_ms" in (tmp_path / "table.txt").read_text()
    with pytest.raises(ConfigError, match="--output"):
        call("base", "slower", "--output", tmp_path / "no" / "folder.txt")


# ------------------------------------------------------------------------------------------------------------- sources
def test_a_side_is_a_sweep_latest_a_folder_or_a_results_file(outputs):
    run = outputs / "slower" / "0_clip_tiny_fp32"
    for candidate in ("slower", outputs / "slower", run, run / "results.jsonl"):
        assert call("base", candidate)[0] == 1
    assert call("slower", "latest")[0] == 0  # the sweep `same` began last
    assert call("base", "latest", "--strict")[0] == 0


def test_a_side_that_does_not_exist_is_named_in_one_line(outputs, tmp_path):
    (tmp_path / "empty").mkdir()
    for words, message in (
        (["2031", "latest"], "BASE '2031': no such sweep in outputs; the latest is 'same'"),
        (["base", "outputs/sam"], "CANDIDATE 'outputs/sam': no such sweep in outputs"),
        (["", "latest"], "BASE '': the name of the sweep is empty; give its id, its folder or latest"),
        (["empty", "latest"], "BASE empty: no run in this folder"),
        (["base", "same", "--output-dir", "empty"], "BASE 'base': no such sweep in empty, which has no runs"),
        (["base", "same", "--output-dir", "gone"], "BASE 'base': no such sweep in gone, which does not exist"),
        (["base", ""], "CANDIDATE '': the name of the sweep is empty"),
    ):
        with pytest.raises(ConfigError) as error:
            call(*words)
        assert str(error.value).startswith(message)
        assert "\n" not in str(error.value)


def test_the_id_of_a_sweep_counts_before_an_unrelated_folder_of_the_same_name(outputs, tmp_path):
    (tmp_path / "base").mkdir()
    assert call("base", "same")[0] == 0


def test_the_same_run_on_both_sides_is_refused(outputs):
    for candidate in ("base", outputs / "base", outputs / "base" / "0_clip_tiny_fp32" / "results.jsonl"):
        with pytest.raises(ConfigError, match="BASE base and CANDIDATE .* are the same run, so nothing"):
            call("base", candidate)
    with pytest.raises(ConfigError, match="are the same run"):
        call("latest", "same")


def test_runs_on_both_sides_are_left_out_of_the_base(outputs):
    code, printed = call("outputs", "slower")
    assert "1 run of BASE outputs left out, because CANDIDATE slower has them too" in " ".join(printed.split())
    assert code == 1


def test_sides_without_a_common_model_are_refused_in_a_short_line(outputs, tmp_path):
    for index in range(30):
        save(tmp_path / "many" / str(index), speed(1.0), name=f"model_{index:02}")
    with pytest.raises(ConfigError) as error:
        call("base", tmp_path / "many")
    assert "nothing to compare: the base has clip_tiny · cpu · fp32, the candidate model_00" in str(error.value)
    assert "27 more" in str(error.value)


def test_where_restricts_both_sides(outputs, tmp_path):
    save(outputs / "slower" / "1_sam_tiny_fp32", speed(1.0), name="sam_tiny", sweep="slower")
    assert "sam_tiny" in call("base", "slower")[1]
    assert "sam_tiny" not in call("base", "slower", "--where", "model=clip_tiny,precision=fp32")[1]
    with pytest.raises(ConfigError, match="none of the 1 runs of BASE base has these facts"):
        call("base", "slower", "--where", "model=sam_tiny")


def test_a_git_revision_selects_its_runs(outputs):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *who, *words], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    commits = []
    for latencies in (STEADY, SLOWER):
        git("commit", "-q", "--allow-empty", "-m", "one")
        commits.append(git("rev-parse", "HEAD"))
        measured(outputs / commits[-1], latencies, git_commit=commits[-1])
    measured(outputs / "changed", SLOWER, git_commit=commits[0] + "+")
    code, printed = call("git:HEAD~1", "git:HEAD", "--format", "markdown")
    assert code == 1
    assert "1 run of " + commits[0][:12] + " with changed files (+) left out" in printed
    git("commit", "-q", "--allow-empty", "-m", "never measured")
    with pytest.raises(ConfigError, match="no run in outputs is of commit"):
        call("git:HEAD~1", "git:HEAD")
    measured(outputs / "only_changed", STEADY, git_commit=git("rev-parse", "HEAD") + "+", sweep="only_changed")
    with pytest.raises(ConfigError, match=r"1 had changed files \(recorded with \+\); name the sweep: only_changed"):
        call("git:HEAD~1", "git:HEAD")
    with pytest.raises(ConfigError, match="git:nothing: no such commit"):
        call("git:nothing", "git:HEAD")


def test_an_mlflow_query_selects_its_runs(outputs):
    tracker = MlflowTracker(TrackingConfig(), outputs)
    for sweep in ("base", "slower"):
        tracker.log(outputs / sweep / "0_clip_tiny_fp32")
    code, printed = call("mlflow:tags.`visionbench.sweep` = 'base'", "mlflow:tags.`visionbench.sweep` = 'slower'")
    assert code == 1
    assert "1 slower" in printed
    with pytest.raises(ConfigError, match="no run in the experiment 'visionbench' matches"):
        call("mlflow:params.model = 'nothing'", "base")
    with pytest.raises(ConfigError, match="Invalid comparator"):
        call("mlflow:params.model == 'clip_tiny'", "base")
    with pytest.raises(ConfigError, match="tracking.experiment=other: not in"):
        call("mlflow:", "base", "--experiment", "other")
    with pytest.raises(ConfigError, match="there is no such file"):
        call("mlflow:", "base", "--uri", "sqlite:///nowhere.db")
    assert not Path("nowhere.db").exists()


# ----------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    "words, message",
    [
        (["basee", "same"], "did you mean 'base'"),
        (["base", "notes.txt"], "BASE|CANDIDATE notes.txt: not a results.jsonl"),
        (["base", "same", "--metric", "latency_p50"], "did you mean 'latency_p50_ms'"),
        (["base", "same", "--threshold", "5"], "--threshold 5: not a fraction below 1; write 5% or 0.05"),
        (["base", "same", "--threshold", "x"], "--threshold x"),
        (["base", "same", "--threshold", "0"], "--threshold 0"),
        (["base", "same", "--quality-threshold", "-1%"], "--quality-threshold -1%"),
        (["base", "same", "--where", "modle=a"], "did you mean 'model'"),
    ],
)
def test_bad_input_is_refused(outputs, words, message):
    Path("notes.txt").touch()
    with pytest.raises(ConfigError, match=message):
        call(*words)


def test_bad_input_exits_with_two_in_one_line(outputs):
    done = terminal.call(outputs.parent, "compare", "base", "sane")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("visionbench: CANDIDATE 'sane': no such sweep in outputs; did you mean 'same'?")
    assert done.stderr.count("\n") == 1


def test_a_revision_outside_a_repository_is_refused(outputs):
    with pytest.raises(ConfigError, match="git:HEAD: this folder is not in a git repository; name the sweep"):
        call("git:HEAD", "latest")
