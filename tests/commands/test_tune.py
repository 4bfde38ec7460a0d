"""`visionbench tune` as a user types it: bad input, a complete search, its files, and continuing after an interrupt."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from dataclasses import replace

import pytest
import yaml
from command_line import COMMAND, FEW_CALLS, here, python_path

from visionbench.commands import tune as command
from visionbench.config import project_folder
from visionbench.core import VALID, ConfigError
from visionbench.records.tuning import FINISHED, SEARCHING, TuneRecord
from visionbench.tuning import finals, trials
from visionbench.tuning.request import parse

SHORT = [
    *("model=clip_tiny", "measure=quick", "device=cpu", "model.attention=auto", "batch.sizes=[1,4]"),
    *("final_repeats=2", "finalists=2", *FEW_CALLS),
]
"""A search of few configurations with few calls."""
TWO = ["precision=fp32,bf16", "runtime=eager", "tracking=none"]


def record_of(folder):
    path = next((folder / "outputs").glob("*/tune.json"))
    return path.parent, TuneRecord.read(path.parent)


# --------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "tune: no model is given; add one"),
        (["model=clip_tiny", "objective=speed"], "objective=speed: no such objective; there are: latency_p50"),
        (["model=clip_tiny", "objective=throughputs"], "did you mean 'throughput'?"),
        (["model=clip_tiny", "objective=latency"], "it does not name the percentile; write latency_p50"),
        (["model=clip_tiny", "max_latency_p95_ms=nan"], "max_latency_p95_ms=nan: not a number above 0"),
        (["model=clip_tiny", "max_latency_p95_ms=inf"], "max_latency_p95_ms=inf: not a number above 0"),
        (["model=clip_tiny", "max_latency_p95_ms=0"], "max_latency_p95_ms=0: not a number above 0"),
        (["model=clip_tiny", "max_memory_mib=-5"], "write max_memory_mib=2000"),
        (["model=clip_tiny", "min_quality=1.01"], "min_quality=1.01: not a share of the quality"),
        (["model=clip_tiny", "min_quality=high"], "min_quality=high: not a share of the quality"),
        (["model=clip_tiny", "trials=0"], "trials=0: not from 1 to 100,000; give at least 1"),
        (["model=clip_tiny", "trials=many"], "trials=many: not a whole number"),
        (["model=clip_tiny", "final_repeats=1"], "final_repeats=1: not from 2 to 100"),
        (["model=clip_tiny", "trials=3", "trials=4"], "trials is given twice: 3 and 4"),
        (["model=clip_tiny", "batch=auto"], "batch=auto: tune searches the batch size"),
        (["model=clip_tiny", "batch.auto=true"], "batch.auto=true: tune does not use it"),
        (["model=clip_tiny", "resume=latest"], "resume=latest: tune does not use it; the same command continues"),
        (["model=clip_tiny", "measure.repeats=5"], "use final_repeats"),
        (["model=clip_tiny", "hydra.launcher.parallel=true"], "tune measures one run after the other"),
        (["model=clip_tiny", "hydra/launcher=ray"], "tune measures one run after the other"),
        (["model=clip_tiny", "measure=quick", "final_measure=thorough"], "measure selects both protocols"),
    ],
)
def test_bad_keys_are_refused_in_one_line(words, message):
    with pytest.raises(ConfigError) as refused:
        parse(words)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=remote"], "tune: model remote is at an endpoint, so this machine has no settings to search"),
        (["model=clip_tinny"], "model=clip_tinny: no such option"),
        (["model=clip_tiny,sam_tiny"], "tune searches one model on one data set; give one value of model"),
        (["model=clip_tiny", "data.options.samples=10,20"], "give one value of data.options.samples"),
        (["model=clip_tiny", "precision.dtype=bfloat16"], "tune searches the options of the group precision"),
        (["model=clip_tiny", "precision=fp33"], "precision=fp33: no such option"),
        (["model=clip_tiny", "runtime=tensorrt"], "runtime=tensorrt: no such option"),
        (["model=clip_tiny", "colour=red"], "there is no key 'colour'"),
        (["experiment=tutorial"], "tune: the command has 3 runs"),
        (["model=clip_tiny", "model.weights=random", "min_quality=0.9"], "min_quality=0.9: no quality can be measured"),
        (["model=clip_tiny", "precision=tf32", "device=cpu"], "tune: no configuration can be measured (precision=tf32"),
        (["model=clip_tiny", "objective=latency_p50", "batch.sizes=[1,2]"], "the latencies of 2 batch sizes"),
        (["model=clip_tiny", "batch.sizes=[0]"], "0"),
        (["model=classifier_tiny", "data=image_folder", "data.root=nowhere", "device=cpu"], "nowhere"),
        (["-m", "model=clip_tiny"], "No such option '-m'"),
        (["--config-dir", "nowhere", "model=clip_tiny"], "nowhere"),
    ],
)
def test_bad_input_exits_with_2_in_one_line_and_leaves_no_folder(tmp_path, words, message):
    done = here(tmp_path, "tune", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_a_missing_optuna_is_one_line_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("visionbench.tuning.proposals.find_spec", lambda name: None)
    done = here(tmp_path, "tune", "model=clip_tiny")
    assert done.returncode == 2
    assert done.stderr == "visionbench: tune: optuna is not installed; pip install 'visionbench[tune]'\n"


def test_precisions_and_runtimes_are_those_of_the_groups(tmp_path):
    (tmp_path / "precision").mkdir()
    (tmp_path / "precision" / "mine.yaml").write_text("name: mine\ndtype: bfloat16\n")
    composed = command.compose(parse(["model=clip_tiny"]), tmp_path)
    assert {"fp32", "bf16", "mine"} <= set(composed.chosen["precision"])
    assert {"eager", "openvino"} <= set(composed.chosen["runtime"])
    assert composed.precisions["mine"].config.values.precision.name == "mine"


# ------------------------------------------------------------------------------------------------------ a real search
@pytest.fixture
def quiet_machine(monkeypatch):
    """Count each measurement as valid, because the machine of the tests may be busy."""

    measured = trials.measurement
    monkeypatch.setattr(trials, "measurement", lambda *arguments: replace(measured(*arguments), verdict=VALID))
    monkeypatch.setattr(finals, "measurement", lambda *arguments: replace(measured(*arguments), verdict=VALID))


def test_a_search_ends_with_a_best_configuration_that_its_file_reproduces(tmp_path, quiet_machine):
    done = here(tmp_path, "tune", *SHORT, *TWO)
    assert done.returncode == 0, done.stderr
    folder, record = record_of(tmp_path)
    assert record.state == FINISHED
    assert record.trials <= record.limit
    assert {(one.combination["precision"], one.combination["threads"]) for one in record.tried} == {
        ("fp32", "1"),
        ("bf16", "1"),
    }
    base, *others = record.finalists
    assert base.baseline and base.measurement.batch_size == 4 and base.combination["precision"] == "fp32"
    assert others and all(one.ratio is not None or one.excluded for one in others)
    assert "Pareto front" in done.stdout
    assert f"visionbench run --config-dir outputs/{folder.name} experiment=best" in done.stdout

    best = record.finalists[record.best]
    run = here(tmp_path, "run", "--config-dir", str(folder), "experiment=best", "output_dir=again")
    assert run.returncode == 0, run.stderr
    reproduced = next((tmp_path / "again").rglob("run.json"))
    config = yaml.safe_load((reproduced.parent / "config.yaml").read_text())
    assert config["precision"]["name"] == best.combination["precision"]
    assert config["batch"]["sizes"] == [best.measurement.batch_size]
    final = yaml.safe_load((folder / best.measurement.run / "config.yaml").read_text())
    for section in ("model", "precision", "runtime", "device", "data", "measure", "metrics"):
        assert config[section] == final[section]


def test_other_commands_read_the_runs_of_a_search(tmp_path):
    assert here(tmp_path, "tune", *SHORT, "precision=fp32", "runtime=eager", "tracking=none").returncode in (0, 3)
    folder, record = record_of(tmp_path)
    listed = json.loads(here(tmp_path, "results", "latest", "--json").stdout)
    assert folder.name in json.dumps(listed)
    assert here(tmp_path, "report", "latest").returncode == 0
    assert here(tmp_path, "export", "latest").returncode == 0
    refused = here(tmp_path, "run", "resume=latest")
    assert refused.returncode == 2
    assert "it is a search of visionbench tune; repeat its command: visionbench tune model=clip_tiny" in refused.stderr


def test_the_same_command_continues_an_interrupted_search(tmp_path):
    words = [*SHORT, *TWO]
    process = subprocess.Popen(
        [COMMAND, "tune", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": python_path(), "COLUMNS": "110"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "of at most" in line and "trials" in line and line.startswith("  fp32"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "the same command continues this search" in out
    folder, record = record_of(tmp_path)
    assert record.state == SEARCHING and len(record.tried) == 1
    measured = record.tried[0]

    done = here(tmp_path, "tune", *words)
    assert done.returncode in (0, 3), done.stderr
    assert f"continues the search {folder.name}" in done.stdout
    again, record = record_of(tmp_path)
    assert again == folder and record.state == FINISHED
    assert record.tried[0] == measured
    assert len(list((tmp_path / "outputs").glob("*/tune.json"))) == 1


def test_a_model_of_the_user_is_reproduced_without_its_folder_of_options(tmp_path, quiet_machine):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    shutil.copytree(project_folder("data") / "classifier_tiny", tmp_path / "conf" / "model" / "ck")
    model = "name: mine\nfamily: image_classifier\ncheckpoint: ./ck\n"
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(model)
    words = ["model=mine", "precision=fp32", "runtime=eager", "tracking=none", "objective=latency_p50", *SHORT[1:4]]
    done = here(tmp_path, "tune", "--config-dir", "conf", *words, "final_repeats=2", *FEW_CALLS, "report.enabled=false")
    assert done.returncode == 0, done.stderr
    folder, record = record_of(tmp_path)
    assert record.finalists[record.best].measurement.batch_size == 1
    run = here(tmp_path, "run", "--config-dir", str(folder), "experiment=best", "output_dir=again", "--dry-run")
    assert run.returncode == 0, run.stderr
    assert "mine · cpu · fp32" in run.stdout


def commands_of_the_documents():
    root = project_folder("docs").parent
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("visionbench tune "):
                yield shlex.split(line, comments=True)[2:]


@pytest.mark.parametrize("words", list(commands_of_the_documents()), ids=" ".join)
def test_each_command_of_the_documents_is_accepted(words):
    assert parse(words).given("model")
