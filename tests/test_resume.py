"""A killed or interrupted sweep is continued at the grain of the case, by the real command."""

import json
import os
import signal
import subprocess

import pytest
from command_line import COMMAND, FEW_CALLS, call, here

WORDS = [
    "run",
    "-m",
    "model=classifier_tiny",
    "model.seed=0,1",
    "batch.sizes=[1,2]",
    "metrics=[latency,classification]",
]
SHORT = [*FEW_CALLS, "tracking=none"]
KEPT = "retry=failed"
"""A busy machine makes cases invalid, which would be measured again."""


def files(folder):
    """Return all files and folders, except those of the measurement of test coverage."""
    return sorted(path for path in folder.rglob("*") if not path.name.startswith(".coverage"))


def end_at(folder, text, number, *words):
    """Run a command, and send it a signal when it prints a line with a text."""
    with subprocess.Popen(
        [COMMAND, *words], cwd=folder, env={**os.environ, "COLUMNS": "110"}, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if text in line:
                process.send_signal(number)
                text = "\0"
    return process.returncode


def rows(folder):
    """Return the case and the status of each row on disk, by the folder of its run."""
    files = sorted((folder / "outputs").glob("*/*/results.jsonl"))
    read = {file.parent.name: [json.loads(line) for line in file.read_text().splitlines()] for file in files}
    return {name: [(row["case"]["id"], row["status"]) for row in each] for name, each in read.items()}


def content(folder, pattern):
    return {path: path.read_bytes() for path in sorted(folder.rglob(pattern))}


OK = [("batch-1", "ok"), ("batch-2", "ok"), ("quality", "ok")]


def test_after_sigkill_only_cases_without_a_row_are_measured_in_the_folders_of_the_sweep(tmp_path):
    code = end_at(tmp_path, "[1/2] classifier_tiny · cpu · fp32 · seed 0  batch 2", signal.SIGKILL, *WORDS, *SHORT)
    assert code == -signal.SIGKILL
    assert rows(tmp_path) == {"0_classifier_tiny_fp32": OK[:1]}
    (first,) = content(tmp_path, "results.jsonl").values()
    (old,) = (json.loads(text) for text in content(tmp_path, "run.json").values())

    listed = call(tmp_path, "results", "latest")
    (sweep,) = (path.parent.name for path in (tmp_path / "outputs").glob("*/sweep.json"))
    assert f"visionbench run resume={sweep}" in listed.stdout

    before = files(tmp_path)
    planned = here(tmp_path, "run", "resume=latest", KEPT, "--dry-run")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "batch-2 (no result), quality (no result)" in planned.stdout
    assert "2 runs, 5 cases" in planned.stdout
    assert files(tmp_path) == before

    done = call(tmp_path, "run", f"resume={sweep}", KEPT)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path) == {"0_classifier_tiny_fp32": OK, "1_classifier_tiny_fp32": OK}
    joined, _ = (json.loads(text) for text in content(tmp_path, "run.json").values())
    assert (joined["uid"], joined["status"], len(joined["sessions"])) == (old["uid"], "finished", 2)
    assert joined["sessions"][1]["cases"] == ["batch-2", "quality"]
    (start, *_) = content(tmp_path, "results.jsonl").values()
    assert start.startswith(first)
    assert (tmp_path / "outputs" / sweep / "report.html").is_file()

    again = here(tmp_path, "run", "resume=latest", KEPT)
    assert again.returncode == 0
    assert again.stdout.startswith(f"resume={sweep}: nothing to measure, 6 results kept")
    assert rows(tmp_path) == {"0_classifier_tiny_fp32": OK, "1_classifier_tiny_fp32": OK}


def test_after_ctrl_c_the_hint_continues_the_repeats_of_a_run(tmp_path):
    words = ["run", "model=classifier_tiny", "measure.repeats=2", "batch.sizes=[1,2]", "metrics=[latency]", *SHORT]
    assert end_at(tmp_path, "[2/2] classifier_tiny · cpu · fp32  batch 2", signal.SIGINT, *words) == 130
    done = call(tmp_path, "run", "resume=latest", KEPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("resume=") and "1 case to measure" in done.stdout.splitlines()[0]
    (path,) = (tmp_path / "outputs").iterdir()
    record = json.loads((path / "run.json").read_text())
    assert (record["status"], record["repeats"]["measured"]) == ("finished", 2)
    gathered = [json.loads(line) for line in (path / "results.jsonl").read_text().splitlines()]
    assert [(row["case"]["id"], row["labels"]["processes"]) for row in gathered] == [("batch-1", "2"), ("batch-2", "2")]
    assert "resumed_of_process_2" in gathered[1]["labels"]


def test_other_versions_are_refused_and_measured_as_another_run_on_request(tmp_path):
    words = ["run", "model=classifier_tiny", "batch.sizes=[1]", "metrics=[latency]", *SHORT]
    assert here(tmp_path, *words).returncode == 0
    (path,) = (tmp_path / "outputs").iterdir()
    record = json.loads((path / "run.json").read_text())
    now = record["host"]["torch"]
    record["host"]["torch"] = "2.12.0"
    (path / "run.json").write_text(json.dumps(record))
    before = content(tmp_path, "*.json*")
    refused = here(tmp_path, "run", "resume=latest", KEPT)
    assert refused.returncode == 2
    assert f"torch 2.12.0 → {now}; on_change=measure measures 1 case of 1 run again" in refused.stderr
    assert content(tmp_path, "*.json*") == before

    done = here(tmp_path, "run", "resume=latest", KEPT, "on_change=measure")
    assert done.returncode == 0, done.stderr
    records = [json.loads(text) for text in content(tmp_path, "run.json").values()]
    assert sorted(each["host"]["torch"] for each in records) == sorted(["2.12.0", now])
    assert len({each["uid"] for each in records}) == 2
    listed = here(tmp_path, "results", "latest")
    assert "2.12.0" in listed.stdout and now in listed.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resume=latest"], "resume=latest: outputs does not exist; measure something first, or set output_dir=…"),
        (["retry=wrong"], "retry=wrong: there is no result 'wrong'; there are: "),
        (["resume=x", "hydra.run.dir=y"], "hydra.run.dir=y: resume=x uses the folder of the sweep; remove it"),
        (["resume=x", "on_change=never"], "on_change=never: no such value; there are: "),
    ],
)
def test_a_wrong_resume_is_refused_in_one_line_and_leaves_no_file(tmp_path, words, message):
    refused = here(tmp_path, "run", *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"visionbench: {message}")
    assert refused.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_key_of_resuming_in_a_file_is_refused(tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nresume: latest\n")
    refused = here(tmp_path, "run", "--config-dir", "conf", "experiment=mine")
    assert refused.returncode == 2
    assert refused.stderr == "visionbench: resume=latest: set in a configuration file; give it on the command line\n"


def test_a_dry_run_prints_the_plan_of_a_sweep_and_writes_nothing(tmp_path):
    before = files(tmp_path)
    planned = here(tmp_path, *WORDS, "--dry-run", "hydra.sweep.dir=outputs/mine")
    assert planned.returncode == 0, planned.stderr
    lines = planned.stdout.splitlines()
    assert lines[0].split() == ["run", "time", "measured"]
    assert [line.split("  ")[0] for line in lines[1:3]] == [
        f"classifier_tiny · cpu · fp32 · seed {seed}" for seed in (0, 1)
    ]
    assert lines[-1] == "dry run: nothing was measured, and nothing was written"
    assert files(tmp_path) == before


def test_a_dry_run_refuses_what_the_command_refuses(tmp_path):
    for words in (["model.weights=randm"], ["data=image_folder", "data.root=nowhere"], ["model.checkpoint=./nowhere"]):
        refused = here(tmp_path, "run", "--dry-run", *words)
        assert (refused.returncode, refused.stdout) == (2, ""), words
        assert refused.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_jobs_with_one_folder_are_refused_before_the_first_run(tmp_path):
    refused = here(tmp_path, *WORDS, *SHORT, "hydra.sweep.subdir=${model.name}")
    assert refused.returncode == 2
    assert refused.stderr == (
        "visionbench: hydra.sweep.subdir=${model.name}: jobs 0 and 1 have the same folder 'classifier_tiny'; add the "
        "number of the job: hydra.sweep.subdir='${hydra.job.num}_${model.name}'\n"
    )
    assert not list(tmp_path.iterdir())
