"""The commands as a user types them, each in an empty folder."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from command_line import COMMAND, FEW_CALLS, TESTS, call, here, python_path

from visionbench.session import preparation
from visionbench.terminal.progress import SweepProgress
from visionbench.trackers.mlflow import MlflowTracker

OWN = """\
name: own
family: own_parts
weights: random
"""


@pytest.fixture
def folder(tmp_path):
    """An empty working folder beside a config folder of the user's own."""
    (tmp_path / "my_conf" / "model").mkdir(parents=True)
    (tmp_path / "my_conf" / "model" / "own.yaml").write_text(OWN)
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def only_run(folder):
    (path,) = (folder / "outputs").glob("*/results.jsonl")
    return path.parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The default experiment, with fixed counts, as `make run` starts it."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, call(folder, "run", *FEW_CALLS)


def test_the_default_run_prints_its_table_and_how_to_view_it(finished):
    folder, done = finished
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    head = next(line for line in lines if line.startswith("batch"))
    assert head.split("  ")[0] == "batch"
    for column in ("p50 ms", "p95 ms", "img/s", "peak MiB", "i→t R@1", "i→t R@5", "t→i R@1", "t→i R@5"):
        assert column in head
    assert [line.split()[0] for line in lines if line.strip() and line.split()[0] in {"1", "2", "4", "8"}] == list(
        "1248"
    )
    assert "measure=quick with measure.retries=0 measure.warmup.calls=2" in " ".join(done.stdout.split())
    assert any(line.startswith("view     visionbench ui") for line in lines)
    assert "advice   visionbench advise" in lines
    assert "Warning" not in done.stdout + done.stderr
    assert done.stderr == ""


@pytest.fixture(scope="module")
def sweep_events(tmp_path_factory):
    """The events of a sweep of two runs: plans, stages, and runs sent to the tracker, in their order."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "my_conf" / "model").mkdir(parents=True)
    (folder / "my_conf" / "model" / "own.yaml").write_text(OWN)
    events = []
    plan, show, send = preparation.make_plan, SweepProgress.show, MlflowTracker.log

    def planning(config, *rest):
        events.append(f"plan {config.model.seed}")
        return plan(config, *rest)

    def showing(progress, stage, *rest):
        events.append(stage)
        show(progress, stage, *rest)

    def sending(tracker, path, figures=True):
        events.append(f"{'send with figures' if figures else 'send'} {path.name[0]}")
        return send(tracker, path, figures)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "make_plan", planning)
        patch.setattr(SweepProgress, "show", showing)
        patch.setattr(MlflowTracker, "log", sending)
        words = ["model=own", "batch=single", "metrics=[latency]", "report.enabled=false", *FEW_CALLS]
        done = here(folder, "run", "--config-dir", "my_conf", "-m", *words, "model.seed=0,1")
    assert done.returncode == 0, done.stderr
    seeds = [json.loads(path.read_text())["config"]["model"]["seed"] for path in folder.rglob("*/run.json")]
    assert {0, 1} <= set(seeds)
    return events


STAGES_OF_A_RUN = ["load", "inputs", "first_call", "warmup", "latency"]


def test_each_run_is_planned_once_and_before_the_first_is_measured(sweep_events):
    assert sweep_events[:2] == ["plan 0", "plan 1"]
    assert not [event for event in sweep_events[2:] if event.startswith("plan")]


def test_a_run_is_sent_to_the_tracker_while_the_next_one_prepares_its_inputs(sweep_events):
    stages = STAGES_OF_A_RUN
    at_the_end = ["send with figures 0", "send with figures 1"]
    assert sweep_events[2:] == [*stages, *stages[:2], "send 0", *stages[2:], *at_the_end]


def test_repeats_take_turns_over_the_sweep_and_become_one_run_each(folder):
    words = ["model=own", "batch.sizes=[1,2]", "metrics=[latency,throughput]", "measure.repeats=2", *FEW_CALLS]
    sweep = ["-m", "model.seed=0,1", "hydra.sweep.dir=outputs/sweep"]
    done = here(folder, "run", "--config-dir", "../my_conf", *words, *sweep)
    assert done.returncode == 0, done.stderr
    assert "2 fresh processes, order seed 0" in done.stdout
    records = [
        json.loads(path.read_text()) for path in sorted((folder / "outputs" / "sweep").glob("*/repeats/*/run.json"))
    ]
    turns = sorted(records, key=lambda record: record["started_at"])
    assert sorted(one["config"]["model"]["seed"] for one in turns[:2]) == [0, 1]
    assert sorted(one["config"]["model"]["seed"] for one in turns[2:]) == [0, 1]
    for path in (folder / "outputs" / "sweep").glob("*/results.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["case"]["id"] for row in rows] == ["batch-1", "batch-2"]
        values = rows[0]["metrics"]["values"]
        low, high = (values[f"latency_p50_across_processes_{end}_ms"] for end in ("low", "high"))
        assert low <= values["latency_p50_ms"] <= high
        again = here(folder, "summarize", str(path.parent))
        assert again.returncode == 0, again.stdout
    synced = here(folder, "sync")
    assert synced.stdout.startswith("2 runs in")


def test_the_run_folder_holds_raw_samples_conditions_and_rows(finished):
    folder, _ = finished
    run = only_run(folder)
    rows = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    assert [row["case"]["id"] for row in rows] == ["batch-1", "batch-2", "batch-4", "batch-8", "quality"]
    assert {row["status"] for row in rows} == {"ok"}
    assert rows[-1]["metrics"]["values"]["recall_i2t_at_1_fraction"] > 0.9
    assert {path.stem for path in (run / "samples").iterdir()} == {row["case"]["id"] for row in rows}
    record = json.loads((run / "run.json").read_text())
    assert record["model"]["model_class"] == "CLIPModel"
    assert record["device"]["threads"] == 1


def test_mlflow_has_the_run_with_the_batch_size_as_the_step(finished):
    folder, _ = finished
    script = (
        "import mlflow, sys; client = mlflow.MlflowClient(sys.argv[1]);"
        "runs = client.search_runs([client.get_experiment_by_name('visionbench').experiment_id]);"
        "print(len(runs), [m.step for m in client.get_metric_history(runs[0].info.run_id, 'latency_mean_ms')])"
    )
    store = f"sqlite:///{folder}/outputs/mlflow.db"
    printed = subprocess.run([sys.executable, "-c", script, store], capture_output=True, text=True, check=True)
    assert printed.stdout.strip().splitlines()[-1] == "1 [1, 2, 4, 8]"


def test_summarize_computes_the_same_values_again(finished):
    folder, _ = finished
    done = here(folder, "summarize", str(only_run(folder)))
    assert done.returncode == 0, done.stdout
    assert "all as reported" in done.stdout


def test_summarize_reports_a_changed_value(finished, tmp_path):
    run = only_run(finished[0])
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", run, copy], check=True)
    rows = [json.loads(line) for line in (copy / "results.jsonl").read_text().splitlines()]
    rows[0]["metrics"]["values"]["latency_mean_ms"] = 0.125
    (copy / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = here(tmp_path, "summarize", str(copy))
    assert done.returncode == 1
    assert "batch-1 latency_mean_ms: reported 0.125, now" in done.stdout


def test_sync_sends_each_run_once(finished, tmp_path):
    folder, _ = finished
    store = f"sqlite:///{tmp_path}/other.db"
    for _ in range(2):
        done = here(folder, "sync", "--uri", store)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("1 run in ")


def test_a_sweep_continues_after_a_run_was_killed(folder):
    words = ["model=own", "+model.options.fault=kill,none", "+model.options.at_batch=2", "batch=tutorial"]
    done = here(folder, "run", "-m", "--config-dir", "../my_conf", *words, *FEW_CALLS, "tracking=none")
    assert done.returncode == 1
    first, second = sorted((folder / "outputs").glob("*/*/results.jsonl"))
    statuses = [[json.loads(line)["status"] for line in file.read_text().splitlines()] for file in (first, second)]
    assert statuses == [["ok", "killed", "skipped_after_oom"], ["ok", "ok", "ok"]]
    assert "killed by SIGKILL" in done.stdout


@pytest.mark.parametrize(
    ("send", "number", "code", "reason"),
    [
        (os.killpg, signal.SIGINT, 130, "interrupted from the keyboard"),
        (os.killpg, signal.SIGHUP, 129, "ended by SIGHUP, because the terminal was closed"),
        (os.kill, signal.SIGTERM, 143, "ended by SIGTERM"),
    ],
)
def test_an_interrupted_run_keeps_its_measurements(send, number, code, reason, folder):
    slow = ["measure.latency.calls=100000000", "batch.sizes=[1,2]", "model=own", "tracking=none"]
    process = subprocess.Popen(
        [COMMAND, "run", "--config-dir", "../my_conf", *FEW_CALLS[:1], *slow],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": python_path(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stdout:
            if "batch 1" in line:
                send(process.pid, number)
                break
        out, err = process.communicate(timeout=60)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == code, err
    assert reason in out
    assert not err.strip()
    statuses = [
        json.loads(line)["status"] for line in only_run(folder).joinpath("results.jsonl").read_text().splitlines()
    ]
    assert statuses == ["interrupted", "not_run"]


def test_an_unreachable_tracking_server_is_reported_in_one_line(folder):
    words = ["model=own", "batch=single", "tracking.uri=http://127.0.0.1:9"]
    done = here(folder, "run", "--config-dir", "../my_conf", *words, *FEW_CALLS)
    assert done.returncode == 0, done.stderr
    assert "visionbench sync" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "ok" in only_run(folder).joinpath("results.jsonl").read_text()


def test_the_metric_in_the_docs_runs(folder):
    text = (TESTS.parent / "docs" / "extending.md").read_text()
    (folder / "slow_calls.py").write_text(next(block for block in blocks(text, "python") if "slow_calls" in block))
    metrics = folder.parent / "my_conf" / "metrics"
    metrics.mkdir()
    (metrics / "slow_calls.yaml").write_text(next(block for block in blocks(text, "yaml") if "slow_calls:" in block))
    words = ["--config-dir", "../my_conf", "model=own", "+metrics=slow_calls", "batch=single", "tracking=none"]
    done = call(folder, "run", *words, *FEW_CALLS, PYTHONPATH=python_path(folder, TESTS))
    assert done.returncode == 0, done.stderr
    row = json.loads(only_run(folder).joinpath("results.jsonl").read_text().splitlines()[0])
    assert row["metrics"]["values"]["slow_calls_fraction"] == 0.0
    assert "slow calls" in done.stdout


def test_the_quality_metric_in_the_docs_runs(folder):
    text = (TESTS.parent / "docs" / "extending.md").read_text()
    (folder / "wordiness.py").write_text(next(block for block in blocks(text, "python") if "wordiness" in block))
    metrics = folder.parent / "my_conf" / "metrics"
    metrics.mkdir()
    (metrics / "wordiness.yaml").write_text(next(block for block in blocks(text, "yaml") if "wordiness:" in block))
    words = ["--config-dir", "../my_conf", "model=blip2_tiny", "metrics=[wordiness,captioning]", "tracking=none"]
    done = call(folder, "run", *words, "data.options.samples=40", PYTHONPATH=python_path(folder, TESTS))
    assert done.returncode == 0, done.stderr
    values = json.loads(only_run(folder).joinpath("results.jsonl").read_text().splitlines()[0])["metrics"]["values"]
    assert 0.5 < values["wordiness_ratio"] < 1.5
    assert "wordiness" in done.stdout
    assert values["captioning_pictures_count"] == 40


def blocks(markdown, language):
    return re.findall(rf"```{language}\n(.*?)```", markdown, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model=clip_tny"], "model=clip_tny: no such option; did you mean 'clip_tiny'?"),
        (["model.wieghts=random"], "there is no key 'model.wieghts'; did you mean 'model.weights'?"),
        (["+modl.weights=random"], "there is no key 'modl'; did you mean 'model'?"),
        (["+measure.latency.min_cals=3"], "there is no key 'measure.latency.min_cals'; did you mean"),
        (["model.weights=randm"], "model.weights=randm: no such value; did you mean 'random'?"),
        (["batch.sizes=[4,0]"], "batch.sizes=[4,0]: 0 is not a batch size; the smallest is 1"),
        (["batch.sizes=[2,2]"], "batch.sizes=[2,2]: 2 is listed twice; list each size once"),
        (["batch.sizes=[1.5]"], "batch.sizes[0]=1.5: not a whole number"),
        (["batch.sizes=4"], "batch.sizes=4: not a list; write a list, as in batch.sizes=[4]"),
        (["device.threads=many"], "device.threads=many: not a whole number"),
        (["metrics=[recal]"], "metrics=recal: no such option; did you mean 'recall'?"),
        (["+metrics.recal.ks=[1]"], "there is no 'recal' among the metrics; did you mean 'recall'?"),
        (["metrics.recall.kz=[1]"], "there is no key 'metrics.recall.kz'; did you mean 'metrics.recall.ks'?"),
        (
            ["metrics=[latency]", "+metrics=memory"],
            "metrics=[latency] +metrics=memory: both a list and additions are given; give",
        ),
        (
            ["model=blip2_tiny", "model.options.beams=2"],
            "'model.options.beams' is not in the config yet; add it with a plus in front, as in +model.options.beams=…",
        ),
        (["model.options.prt=image"], "there is no key 'model.options.prt'; did you mean 'model.options.part'?"),
        (["model.options.part=imge"], "model.options.part=imge: no such part; did you mean 'image'?"),
        (["data=image_folder"], "'data.root' has no value; give it one, as in data.root=…"),
        (["metrics=[recall]", "model.weights=random"], "metrics: nothing is left to measure; recall: random weights"),
        (["-m", "precision=fp32,fp23"], "precision=fp23: no such option"),
        (["-m", "model.weights=random,randm"], "model.weights=randm: no such value; did you mean 'random'?"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: there is no such folder"),
        (["no equals sign"], "'no equals sign': not of the form key=value"),
        (["--nonsense"], "--nonsense: there is no such flag; see visionbench run --help"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_no_file(folder, words, line):
    done = here(folder, "run", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"visionbench: {line}")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not list(folder.iterdir())


def test_a_separate_process_prints_only_the_error(folder):
    done = call(folder, "run", "model=clip_tny")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "visionbench: model=clip_tny: no such option; did you mean 'clip_tiny'?\n"


def test_a_folder_that_cannot_be_written_is_reported_in_one_line(folder):
    (folder / "file").touch()
    done = here(folder, "run", "output_dir=file/below", "tracking=none", "hydra.run.dir=file/below/run")
    assert done.returncode == 2
    assert done.stderr.startswith("visionbench: file/below/run: Not a directory; free space, or give a folder that")
    assert len(done.stderr.splitlines()) == 1


def test_help_lists_the_groups_and_cfg_shows_the_configuration(folder):
    helped = " ".join(call(folder, "run", "--help").stdout.split())
    assert (
        "metrics: all, captioning, classification, cost, depth, detection, endpoint, energy, evaluation, features, "
        "flops, kernels, latency, load, memory, parity, pipeline, question_answering, recall, segmentation, "
        "semantic_segmentation, serving, throughput, utilization"
    ) in helped
    assert "own" in call(folder, "run", "--config-dir", "../my_conf", "--help").stdout
    shown = call(folder, "run", "batch=single", "--cfg", "job").stdout
    assert "sizes:\n  - 1\n" in shown
    assert "hydra:" not in shown


def test_completion_offers_commands_groups_and_options(folder):
    def offered(line):
        return call(folder, "-sc", "query=bash", COMP_LINE=line).stdout.split()

    assert call(folder, "run", "-sc", "install=bash").stdout.strip().endswith("visionbench")
    assert offered("visionbench su") == ["summarize"]
    assert "precision=" in offered("visionbench run pre")
    assert offered("visionbench run batch=t") == ["batch=tutorial"]


def test_doctor_shows_the_machine(folder):
    done = call(folder, "doctor")
    assert done.returncode in (0, 1)
    for name in ("processor", "memory", "disk", "torch", "CUDA of torch", "threads"):
        assert name in done.stdout


def test_models_lists_all_models_and_their_checkpoints(folder):
    done = call(folder, "models", "--config-dir", "../my_conf")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "151,277,313" in rows["clip_vit_b32"]
    assert rows["clip_tiny"].split()[-2:] == ["yes", "bundled:clip_tiny"]
    assert "averaging" in rows["own"]
    assert call(folder, "models", "fetch", "clip_tny").stderr.startswith(
        "visionbench: there is no model 'clip_tny'; did you"
    )


def test_an_ascii_terminal_shows_text_for_signs_and_a_question_mark_for_other_characters():
    script = "from visionbench.terminal import streams; streams.protect(); print('clip_tiny · cpu ± é')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert printed.stdout == "clip_tiny - cpu +- ?\n"
