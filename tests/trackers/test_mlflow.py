"""The MLflow tracker with hand-written run folders, without a model and without a server."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import yaml
from mlflow.exceptions import MlflowException
from PIL import Image

from visionbench.config import TrackingConfig
from visionbench.core import (
    FAILED,
    OK,
    OUT_OF_MEMORY,
    Case,
    CaseResult,
    ConfigError,
    Metrics,
    Predictions,
    Reason,
    RunPlan,
    Samples,
    TrackingError,
    Validity,
)
from visionbench.records.folder import RunFolder
from visionbench.records.record import RunRecord
from visionbench.registry import find
from visionbench.results import archive, declared
from visionbench.trackers import mlflow as mlflow_tracker
from visionbench.trackers.mlflow import MlflowTracker, content, sent, view

STARTED, ENDED = "2026-01-02T03:04:05.678+00:00", "2026-01-02T03:05:05.678+00:00"
STARTED_MS = 1767323045678
CONFIG = """\
model: {name: clip_tiny, family: dual_encoder, weights: pretrained, checkpoint: bundled:clip_tiny, revision: null,
  attention: sdpa, seed: 0, options: {part: both}}
precision: {name: bf16, dtype: bfloat16, tf32: false}
data: {name: shapes, options: {split: test, token: "${oc.env:TOKEN}"}}
measure: {name: quick}
tracking: {uri: "${oc.env:STORE}"}
"""
SECRET = "hunter2"
QUALITY = Case("quality", 32, ("evaluation",), ("recall",))


def timed(batch_size: int) -> Case:
    return Case(f"batch-{batch_size}", batch_size, ("warmup", "latency", "throughput"), ("latency", "throughput"))


def measured(batch_size: int, throughput: float, verdict: str = "valid") -> CaseResult:
    values = {
        "latency_p50_ms": 1000 * batch_size / throughput,
        "latency_p99_ms": None,
        "throughput_images_per_s": throughput,
        "memory_process_peak_mib": 100.0 * batch_size,
    }
    reasons = () if verdict == "valid" else (Reason("not_converged", "still 4 % apart"),)
    reasons_missing = {"latency_p99_ms": "10 calls, and p99 needs 368"}
    return CaseResult(timed(batch_size), OK, None, Metrics(values, reasons_missing), Validity(verdict, reasons))


def scored(recall: float) -> CaseResult:
    return CaseResult(QUALITY, OK, None, Metrics({"recall_i2t_at_1_fraction": recall}))


RESULTS = (measured(1, 100.0), measured(4, 250.0, "warned"), scored(0.5))


def write(
    path: Path, *results: CaseResult, status: str = "finished", plan_more: dict[str, Any] | None = None, **more: Any
) -> Path:
    """Write the folder of a run as the runner does, and return its path. `plan_more` adds keys to its plan."""
    folder = RunFolder.create(path / uuid4().hex, CONFIG)
    plan = {
        "name": "clip_tiny · cpu · bf16",
        "model": "clip_tiny",
        "task": "retrieval",
        "device": "cpu",
        "precision": "bf16",
        "cases": [asdict(result.case) for result in results],
        "protocol": "quick",
        "refused": {"masks": "the data has no masks"},
        "warnings": [],
        **(plan_more or {}),
    }
    conditions = {
        "uid": uuid4().hex,
        "sweep": "2026-01-02_03-04-05",
        "started_at": STARTED,
        "git_commit": "0123abc",
        "host": {"host": "box", "torch": "2.13.0", "python": "3.11.7"},
        "plan": plan,
        "config": yaml.safe_load(CONFIG),
        "model": {"weights": "pretrained", "checkpoint": "bundled:clip_tiny", "parameters": 12, "text_tokens": 32},
        "device": {"device_name": "a processor", "threads": 2},
        "data": {"name": "shapes", "split": "test"},
        "status": status,
        "ended_at": ENDED,
    }
    folder.write_record(RunRecord.from_json({**conditions, **more}))
    for result in results:
        series = {"latency/host_s": np.arange(3.0)} if result.status == OK else {}
        folder.append(result, Samples(series))
    folder.log.touch()
    return folder.path


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture
def tracker(output_dir: Path, request: pytest.FixtureRequest) -> MlflowTracker:
    """A tracker with one experiment for each test. All tests share a store, because a new store takes seconds."""
    tracker = MlflowTracker(TrackingConfig(experiment=request.node.name), output_dir)
    tracker.open()
    return tracker


def runs(tracker: MlflowTracker) -> list[Any]:
    return list(tracker._client.search_runs([tracker._experiment_id]))


def only_run(tracker: MlflowTracker) -> Any:
    [run] = runs(tracker)
    return run


def history(tracker: MlflowTracker, name: str) -> list[tuple[int, float]]:
    points = tracker._client.get_metric_history(only_run(tracker).info.run_id, name)
    return [(metric.step, metric.value) for metric in points]


# ------------------------------------------------------------------------------------------------------------ one run
def test_the_tracker_is_registered_by_its_name() -> None:
    assert find("trackers", "mlflow") is MlflowTracker


def test_a_metric_has_its_batch_size_as_step(tracker: MlflowTracker, tmp_path: Path) -> None:
    tracker.log(write(tmp_path, *RESULTS, CaseResult(timed(8), OUT_OF_MEMORY, "no room")))
    assert history(tracker, "throughput_images_per_s") == [(1, 100.0), (4, 250.0)]
    assert history(tracker, "recall_i2t_at_1_fraction") == [(0, 0.5)]
    assert history(tracker, "best_throughput_images_per_s") == [(0, 250.0)]
    assert history(tracker, "best_throughput_batch_size") == [(0, 4.0)]
    assert history(tracker, "lowest_latency_p50_ms") == [(0, 10.0)]
    assert only_run(tracker).data.metrics["highest_memory_process_peak_mib"] == 400.0
    assert not [name for name in only_run(tracker).data.metrics if "p99" in name]  # it is None


def test_runs_are_flat_and_named_by_their_plan(tracker: MlflowTracker, tmp_path: Path) -> None:
    for _ in range(2):
        tracker.log(write(tmp_path, *RESULTS))
    assert [run.info.run_name for run in runs(tracker)] == ["clip_tiny · cpu · bf16"] * 2
    assert not [name for run in runs(tracker) for name in run.data.tags if name == "mlflow.parentRunId"]
    assert {run.data.tags["visionbench.sweep"] for run in runs(tracker)} == {"2026-01-02_03-04-05"}


def plan(name: str, **varied: str) -> RunPlan:
    """Return the plan of a run with this name. `model__attention` stands for the key `model.attention`."""
    keys = {key.replace("__", "."): value for key, value in varied.items()}
    return RunPlan(name, name.partition(" ")[0], "retrieval", "cpu", "fp32", (timed(1),), varied=keys)


@pytest.mark.parametrize(
    ("run_plan", "name"),
    [
        (plan("clip_tiny · cpu · fp32"), "clip_tiny · cpu · fp32"),
        (plan("clip_tiny · cpu · fp32", model="clip_tiny", precision="fp32"), "fp32 · clip_tiny · cpu"),
        (plan("clip_vit_b32 · cpu · fp32", precision="fp32"), "fp32 · clip_vit_b32 · cpu"),
        (plan("clip_tiny · cpu · fp32 · threads 5", device__threads="5"), "threads 5 · clip_tiny · cpu · fp32"),
        (
            plan("clip_tiny · cpu · fp32 · attention sdpa", model="clip_tiny", model__attention="sdpa"),
            "attention sdpa · clip_tiny · cpu · fp32",
        ),
        (plan("classifier_tiny · cpu · fp32", model="classifier_tiny"), "classifier_tiny · cpu · fp32"),
    ],
)
def test_the_name_of_a_run_begins_with_what_differs_in_its_sweep(run_plan: RunPlan, name: str) -> None:
    assert content.run_name(run_plan) == name


def test_what_differs_is_a_param_that_runs_can_be_filtered_by(tracker: MlflowTracker, tmp_path: Path) -> None:
    for threads in ("1", "5"):
        tracker.log(write(tmp_path, *RESULTS, plan_more={"varied": {"device.threads": threads, "precision": "bf16"}}))
    query = "params.`device.threads` = '5'"
    [run] = tracker._client.search_runs([tracker._experiment_id], query)
    assert run.data.params["device.threads"] == "5"
    assert run.data.params["threads"] == "2"  # as the device reported them


def test_a_key_that_a_run_does_not_have_is_no_param(tracker: MlflowTracker, tmp_path: Path) -> None:
    tracker.log(write(tmp_path, *RESULTS, plan_more={"varied": {"model.options.part": "–"}}))
    assert "model.options.part" not in only_run(tracker).data.params


def test_headlines_precede_the_other_metrics(tracker: MlflowTracker, tmp_path: Path) -> None:
    names = ("recall_i2t_at_1_low_fraction", "recall_i2t_at_1_fraction", "recall_t2i_at_1_fraction")
    quality = CaseResult(QUALITY, OK, None, Metrics(dict.fromkeys(names, 0.5)))
    tracker.log(write(tmp_path, quality, *RESULTS[:2]))
    metrics = list(only_run(tracker).data.metrics)
    assert metrics[0] == "best_throughput_images_per_s"
    summary_end = metrics.index("largest_batch_size") + 1
    assert metrics[summary_end : summary_end + 3] == [*reversed(names)]


def test_neighbouring_runs_differ_in_colour(tracker: MlflowTracker, tmp_path: Path) -> None:
    for second in range(len(view.COLOURS) + 1):
        tracker.log(write(tmp_path, RESULTS[0], started_at=f"2026-01-02T03:04:{second:02}+00:00"))
    colours = [run.data.tags["mlflow.runColor"] for run in reversed(runs(tracker))]
    assert colours == [*view.COLOURS, view.COLOURS[0]]


@pytest.mark.parametrize(
    ("status", "stored"), [("finished", "FINISHED"), ("failed", "FAILED"), ("interrupted", "KILLED")]
)
def test_a_run_has_its_times_and_its_status(tracker: MlflowTracker, tmp_path: Path, status: str, stored: str) -> None:
    tracker.log(write(tmp_path, *RESULTS, status=status))
    info = only_run(tracker).info
    assert (info.status, info.start_time, info.end_time) == (stored, STARTED_MS, STARTED_MS + 60_000)


def test_params_and_tags_describe_the_run(tracker: MlflowTracker, tmp_path: Path) -> None:
    tracker.log(write(tmp_path, *RESULTS))
    params, tags = only_run(tracker).data.params, only_run(tracker).data.tags
    assert {
        name: params[name] for name in ("model", "precision", "dtype", "batch_sizes", "protocol", "text_tokens")
    } == {
        "model": "clip_tiny",
        "precision": "bf16",
        "dtype": "bfloat16",
        "batch_sizes": "1, 4",
        "protocol": "quick",
        "text_tokens": "32",
    }
    assert (params["part"], params["data_split"], params["checkpoint"]) == ("both", "test", "bundled:clip_tiny")
    assert "revision" not in params
    assert tags["visionbench.torch"] == "2.13.0"
    assert {name: tags[f"visionbench.{name}"] for name in ("task", "family", "weights", "data", "validity")} == {
        "task": "retrieval",
        "family": "dual_encoder",
        "weights": "pretrained",
        "data": "shapes",
        "validity": "warned",
    }
    assert tags["visionbench.device_name"] == "a processor"
    assert tags["mlflow.source.git.commit"] == "0123abc"
    assert "visionbench.failures" not in tags


def test_the_data_set_is_an_input(tracker: MlflowTracker, tmp_path: Path) -> None:
    tracker.log(write(tmp_path, *RESULTS))
    [entry] = only_run(tracker).inputs.dataset_inputs
    assert entry.dataset.name == "shapes"
    assert len(entry.dataset.digest) == 8
    assert json.loads(entry.dataset.source) == {"name": "shapes", "split": "test"}


def test_the_files_of_a_run_are_artifacts(tracker: MlflowTracker, tmp_path: Path, output_dir: Path) -> None:
    folder = write(tmp_path, *RESULTS)
    tracker.log(folder)
    artifacts = output_dir / "mlartifacts" / only_run(tracker).info.run_id / "artifacts"
    assert {str(path.relative_to(artifacts)) for path in artifacts.rglob("*") if path.is_file()} == {
        "config.yaml",
        "results.jsonl",
        "run.json",
        "samples/batch-1.parquet",
        "samples/batch-4.parquet",
        "samples/quality.parquet",
        "summary.csv",
        "summary.json",
        "throughput_latency.png",
    }
    assert (artifacts / "results.jsonl").read_bytes() == (folder / "results.jsonl").read_bytes()
    assert (artifacts / "summary.csv").read_text().splitlines()[2] == "4,250.0,16.0,,400.0,warned"
    with Image.open(artifacts / "throughput_latency.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300


def test_predictions_and_the_confusion_matrix_are_artifacts(
    tracker: MlflowTracker, tmp_path: Path, output_dir: Path
) -> None:
    folder = write(tmp_path, RESULTS[0])
    scores = [np.eye(3, dtype=np.float32)[index] for index in (0, 1, 1)]
    predictions = Predictions(["a", "b", "c"], {"class_scores": scores, "label": ["x", "y", "z"]}, ["x", "y", "z"])
    indices = {"true_index": np.array([0.0, 1.0, 2.0]), "predicted_index": np.array([0.0, 1.0, 1.0])}
    samples = Samples({f"classification/{name}": series for name, series in indices.items()})
    RunFolder(folder).append(scored(0.5), samples, predictions)
    tracker.log(folder)
    artifacts = output_dir / "mlartifacts" / only_run(tracker).info.run_id / "artifacts"
    assert (artifacts / "predictions.parquet").read_bytes() == (folder / "predictions.parquet").read_bytes()
    with Image.open(artifacts / "confusion_matrix.png") as picture:
        assert picture.format == "PNG"


def test_predictions_too_large_to_send_stay_in_the_folder(
    tracker: MlflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, RESULTS[0])
    RunFolder(folder).append(scored(0.5), Samples(), Predictions(["a"], {"caption": ["a ring"]}))
    monkeypatch.setattr(content, "LARGEST_PREDICTIONS", 10)
    tracker.log(folder)
    sent = {item.path for item in tracker._client.list_artifacts(only_run(tracker).info.run_id)}
    assert "results.jsonl" in sent and "predictions.parquet" not in sent


def test_the_output_of_the_worker_is_an_artifact(tracker: MlflowTracker, tmp_path: Path) -> None:
    folder = write(tmp_path, *RESULTS)
    RunFolder(folder).log.write_text("a warning of some library\n")
    tracker.log(folder)
    assert "worker.log" in {item.path for item in tracker._client.list_artifacts(only_run(tracker).info.run_id)}


def test_the_note_begins_with_the_failure(tracker: MlflowTracker, tmp_path: Path) -> None:
    tracker.log(write(tmp_path, RESULTS[0], CaseResult(timed(8), FAILED, "the model is broken"), status="failed"))
    note = only_run(tracker).data.tags["mlflow.note.content"]
    assert note.startswith("**failed**: batch-8 failed: the model is broken · **100 images/s** at batch size 1")
    assert "| 1 | 100 | 10 |" in note
    assert "- masks: the data has no masks" in note
    assert only_run(tracker).data.tags["visionbench.failures"] == "batch-8 failed: the model is broken"


def test_a_run_that_failed_before_loading_is_sent_too(tracker: MlflowTracker, tmp_path: Path) -> None:
    folder = write(
        tmp_path, CaseResult(timed(1), FAILED, "no such file"), status="failed", model={}, device={}, data={}
    )
    tracker.log(folder)
    assert only_run(tracker).info.status == "FAILED"
    assert only_run(tracker).data.params["checkpoint"] == "bundled:clip_tiny"  # as configured
    assert "visionbench.validity" not in only_run(tracker).data.tags


def test_secrets_stay_on_the_machine(tracker: MlflowTracker, tmp_path: Path, output_dir: Path) -> None:
    tracker.log(write(tmp_path, *RESULTS))
    run = only_run(tracker)
    artifacts = output_dir / "mlartifacts" / run.info.run_id / "artifacts"
    assert (artifacts / "config.yaml").read_text() == CONFIG
    assert not [path for path in artifacts.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert SECRET not in str(run.data.params) + str(run.data.tags)
    assert run.data.params["data_token"] == "${oc.env:TOKEN}"


def test_more_entries_than_one_call_accepts_are_sent_in_several_calls(tracker: MlflowTracker, tmp_path: Path) -> None:
    many = Metrics({f"made_up_{number}_count": float(number) for number in range(1700)})
    host = {f"library{number}": "1.0" for number in range(150)}
    tracker.log(write(tmp_path, replace(RESULTS[0], metrics=many), host=host))
    assert len([name for name in only_run(tracker).data.metrics if name.startswith("made_up")]) == 1700
    assert len([name for name in only_run(tracker).data.tags if name.startswith("visionbench.library")]) == 150


# ------------------------------------------------------------------------------------------------------ sent once only
def test_sending_again_changes_nothing(tracker: MlflowTracker, tmp_path: Path) -> None:
    folder = write(tmp_path, *RESULTS)
    first = tracker.log(folder)
    tracker._client.set_tag(only_run(tracker).info.run_id, "mlflow.note.content", "what a person wrote")
    assert tracker.log(folder) == first
    assert only_run(tracker).data.tags["mlflow.note.content"] == "what a person wrote"


@pytest.mark.parametrize(
    ("output_dir", "config", "command"),
    [
        ("outputs", {}, "visionbench ui"),
        ("out puts", {"experiment": "lab"}, "visionbench ui --output-dir 'out puts' --experiment lab"),
        ("outputs", {"uri": "sqlite:///lab.db"}, "visionbench ui --uri sqlite:///lab.db"),
    ],
)
def test_the_view_hint_of_a_local_store_is_the_command_that_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output_dir: str, config: dict[str, str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(output_dir).mkdir()
    assert MlflowTracker(TrackingConfig(**config), Path(output_dir)).log(write(tmp_path, *RESULTS)) == command


@pytest.mark.parametrize("broken", ["log_batch", "log_inputs", "log_artifacts", "set_terminated"])
def test_a_half_sent_run_is_completed(
    tracker: MlflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    folder = write(tmp_path, *RESULTS)
    with (
        monkeypatch.context() as patch,
        pytest.raises(TrackingError, match="Connection reset by peer; results are safe"),
    ):
        patch.setattr(tracker._client, broken, fail)
        tracker.log(folder)
    assert only_run(tracker).info.status == "RUNNING"
    tracker.log(folder)
    assert only_run(tracker).info.status == "FINISHED"
    assert history(tracker, "throughput_images_per_s") == [(1, 100.0), (4, 250.0)]
    assert len(tracker._client.list_artifacts(only_run(tracker).info.run_id)) == 7


CONFLICTS = {
    "PostgreSQL": "(psycopg.errors.UniqueViolation) duplicate key value violates unique constraint",
    "SQLite": "(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name",
    "MySQL": "(pymysql.err.OperationalError) (1213, 'Deadlock found when trying to get lock')",
}


@pytest.mark.parametrize("database", CONFLICTS)
@pytest.mark.parametrize("call", ["log_inputs", "log_batch", "set_terminated", "set_experiment_tag"])
def test_a_call_that_conflicts_with_another_process_is_made_again(
    tracker: MlflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, database: str
) -> None:
    made = 0
    original = getattr(tracker._client, call)

    def conflict_once(*args: Any, **kwargs: Any) -> Any:
        nonlocal made
        made += 1
        if made == 1:
            raise MlflowException(CONFLICTS[database])
        return original(*args, **kwargs)

    monkeypatch.setattr(tracker._client, call, conflict_once)
    tracker.log(write(tmp_path, *RESULTS, plan_more={"varied": {"device.threads": "1"}}))
    assert made > 1
    assert only_run(tracker).info.status == "FINISHED"
    assert history(tracker, "throughput_images_per_s") == [(1, 100.0), (4, 250.0)]


def test_a_call_that_always_conflicts_is_an_error(
    tracker: MlflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def conflict(*args: Any, **kwargs: Any) -> None:
        made.append(args)
        raise MlflowException(CONFLICTS["PostgreSQL"])

    monkeypatch.setattr(tracker._client, "log_inputs", conflict)
    with pytest.raises(TrackingError, match="UniqueViolation.*results are safe"):
        tracker.log(write(tmp_path, *RESULTS))
    assert len(made) == mlflow_tracker.MOST_ATTEMPTS


def test_figures_may_be_sent_later(tracker: MlflowTracker, tmp_path: Path) -> None:
    def names() -> set[str]:
        return {artifact.path for artifact in tracker._client.list_artifacts(only_run(tracker).info.run_id)}

    folder = write(tmp_path, *RESULTS)
    tracker.log(folder, figures=False)
    first = only_run(tracker)
    assert first.info.status == "FINISHED"
    assert "results.jsonl" in names()
    assert "throughput_latency.png" not in names()
    record = RunFolder(folder).record()
    assert tracker.complete_runs(None) == (set(), None)
    tracker.log(folder, figures=False)
    assert "throughput_latency.png" not in names()
    tracker.log(folder)
    assert only_run(tracker).info.run_id == first.info.run_id
    assert "throughput_latency.png" in names()
    assert history(tracker, "throughput_images_per_s") == [(1, 100.0), (4, 250.0)]
    assert tracker.complete_runs(None) == ({sent.key_of(record)}, None)


def test_the_tables_of_a_database_have_the_same_complete_runs_as_the_search(
    tracker: MlflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {name: write(tmp_path / name, *RESULTS) for name in ("complete", "deleted", "no_figures", "unfinished")}
    uids = {name: RunFolder(folder).record().uid for name, folder in folders.items()}
    assert len(set(uids.values())) == len(folders)
    for name, folder in folders.items():
        tracker.log(folder, figures=name not in ("deleted", "no_figures"))
    client = tracker._client
    runs = {run.data.tags["visionbench.uid"]: run.info.run_id for run in client.search_runs([tracker._experiment_id])}
    client.create_run(tracker._experiment_id)
    client.delete_run(runs[uids["deleted"]])
    client.update_run(runs[uids["unfinished"]], "RUNNING")
    by_tables, token = tracker.complete_runs(None)
    monkeypatch.setattr(mlflow_tracker, "is_database", lambda uri: False)
    by_search, _ = tracker.complete_runs(None)
    assert token is None
    assert by_tables == by_search
    assert {key[0] for key in by_tables} == {uids["complete"], uids["deleted"]}


def test_a_query_may_match_more_runs_than_one_page(
    tracker: MlflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second", "third"):
        tracker.log(write(tmp_path / name, *RESULTS))
    monkeypatch.setattr(mlflow_tracker, "RUNS_PER_PAGE", 2)
    assert len(tracker.matches("attributes.status = 'FINISHED'")) == 3
    monkeypatch.setattr(mlflow_tracker, "MOST_FETCHED", 2)
    with pytest.raises(TrackingError, match="over 2 runs match"):
        tracker.matches("attributes.status = 'FINISHED'")


def test_a_deleted_run_gets_no_figures(tracker: MlflowTracker, tmp_path: Path) -> None:
    folder = write(tmp_path, *RESULTS)
    tracker.log(folder, figures=False)
    tracker._client.delete_run(only_run(tracker).info.run_id)
    tracker.log(folder)
    assert runs(tracker) == []


def test_a_run_sent_before_it_ended_is_replaced(tracker: MlflowTracker, tmp_path: Path) -> None:
    folder = write(tmp_path, RESULTS[0], status="running")
    tracker.log(folder)
    assert only_run(tracker).info.status == "KILLED"
    run = RunFolder(folder)
    run.append(measured(4, 250.0), Samples())
    run.write_record(replace(run.record(), status="finished"))
    tracker.log(folder)
    assert only_run(tracker).info.status == "FINISHED"
    assert history(tracker, "best_throughput_images_per_s") == [(0, 250.0)]


def test_a_deleted_run_stays_deleted(tracker: MlflowTracker, tmp_path: Path) -> None:
    folder = write(tmp_path, *RESULTS)
    tracker.log(folder)
    tracker._client.delete_run(only_run(tracker).info.run_id)
    tracker.log(folder)
    assert runs(tracker) == []


def test_a_folder_without_results_is_refused(tracker: MlflowTracker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a run's folder"):
        tracker.log(tmp_path)


# ---------------------------------------------------------------------------------------------------------- attachments
def test_attached_files_are_below_report_and_replace_earlier_ones(
    tracker: MlflowTracker, tmp_path: Path, output_dir: Path
) -> None:
    first, second = (write(tmp_path, *RESULTS) for _ in range(2))
    tracker.log(first)
    run = only_run(tracker)
    tracker.log(second)
    page, figure = tmp_path / "report.html", tmp_path / "curves.png"
    for text in ("early", "late"):
        page.write_text(f"<p>{text}</p>")
        figure.write_bytes(text.encode())
        tracker.attach(first, [page, figure])
    attached = output_dir / "mlartifacts" / run.info.run_id / "artifacts" / "report"
    assert {path.name: path.read_text() for path in attached.iterdir()} == {
        "report.html": "<p>late</p>",
        "curves.png": "late",
    }
    [other] = [each for each in runs(tracker) if each.info.run_id != run.info.run_id]
    assert "report" not in {item.path for item in tracker._client.list_artifacts(other.info.run_id)}
    assert tracker._client.get_run(run.info.run_id).info.end_time == run.info.end_time


def test_attaching_to_a_run_that_the_store_does_not_have_is_an_error(tracker: MlflowTracker, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>complete</p>")
    folder = write(tmp_path, *RESULTS)
    with pytest.raises(TrackingError, match="it has no run of .*; send it with visionbench sync"):
        tracker.attach(folder, [tmp_path / "report.html"])


def test_nothing_is_attached_to_a_deleted_run(tracker: MlflowTracker, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>complete</p>")
    folder = write(tmp_path, *RESULTS)
    tracker.log(folder)
    run_id = only_run(tracker).info.run_id
    tracker._client.delete_run(run_id)
    tracker.attach(folder, [tmp_path / "report.html"])
    assert "report" not in {item.path for item in tracker._client.list_artifacts(run_id)}


def test_files_that_are_attached_already_may_be_kept(tracker: MlflowTracker, tmp_path: Path, output_dir: Path) -> None:
    folder = write(tmp_path, *RESULTS)
    tracker.log(folder)
    page, figure = tmp_path / "report.html", tmp_path / "curves.png"
    page.write_text("<p>early</p>")
    tracker.attach(folder, [page], again=False)
    for file in (page, figure):
        file.write_text("late")
    tracker.attach(folder, [page, figure], again=False)
    attached = output_dir / "mlartifacts" / only_run(tracker).info.run_id / "artifacts" / "report"
    assert {path.name: path.read_text() for path in attached.iterdir()} == {
        "report.html": "<p>early</p>",
        "curves.png": "late",
    }


# ----------------------------------------------------------------------------------------------------------- the store
def test_the_experiment_has_its_view(tracker: MlflowTracker) -> None:
    experiment = tracker._client.get_experiment_by_name(tracker.config.experiment)
    envelope = json.loads(experiment.tags[view.TAG])
    packed = envelope["state"].removeprefix("deflate;")
    assert json.loads(zlib.decompress(base64.b64decode(packed))) == view.state(declared.bundled())
    assert "batch size" in experiment.tags["mlflow.note.content"]
    assert tracker.page().startswith(f"#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=visionbench")


def seeded_view(tracker: MlflowTracker) -> dict[str, Any]:
    packed = json.loads(tracker._client.get_experiment(tracker._experiment_id).tags[view.TAG])["state"]
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed.removeprefix("deflate;"))))
    return state


def test_the_first_columns_identify_a_run_and_show_what_differs(tracker: MlflowTracker, tmp_path: Path) -> None:
    def first_columns() -> list[str]:
        columns = seeded_view(tracker)["selectedColumns"]
        end = columns.index("tags.`visionbench.validity`") + 1
        return [column.partition(".")[2].strip("`") for column in columns[:end]]

    start, end = ["model", "device", "precision"], ["data", "visionbench.validity"]
    tracker.log(write(tmp_path, *RESULTS))
    assert first_columns() == [*start, *end]
    tracker.log(write(tmp_path, *RESULTS, plan_more={"varied": {"device.threads": "1"}}))
    tracker.log(write(tmp_path, *RESULTS, plan_more={"varied": {"model": "clip_tiny", "model.attention": "sdpa"}}))
    assert first_columns() == [*start, "model.attention", "device.threads", *end]
    tracker.log(write(tmp_path, *RESULTS, plan_more={"varied": {"device.threads": "5"}}))
    assert first_columns() == [*start, "device.threads", "model.attention", *end]
    MlflowTracker(tracker.config, tracker.output_dir).open()
    assert first_columns() == [*start, "device.threads", "model.attention", *end]


def test_the_number_of_columns_of_what_differs_is_limited(tracker: MlflowTracker, tmp_path: Path) -> None:
    for number in range(view.MOST_VARIED + 2):
        tracker.log(write(tmp_path, RESULTS[0], plan_more={"varied": {f"measure.key{number}": "1"}}))
    shown = [column for column in seeded_view(tracker)["selectedColumns"] if "measure.key" in column]
    latest_first = range(view.MOST_VARIED + 1, 1, -1)
    assert shown == [f"params.`measure.key{number}`" for number in latest_first]


def test_a_view_that_a_person_changed_gets_no_column(tracker: MlflowTracker, tmp_path: Path) -> None:
    changed = view.tag_value({**view.state(declared.bundled()), "orderByAsc": True}, 0)
    for value in (changed, "my own"):
        tracker._client.set_experiment_tag(tracker._experiment_id, view.TAG, value)
        tracker.log(write(tmp_path, *RESULTS, plan_more={"varied": {f"device.{len(value)}": "1"}}))
        assert tracker._client.get_experiment(tracker._experiment_id).tags[view.TAG] == value


def test_a_damaged_list_of_what_differs_is_replaced(tracker: MlflowTracker, tmp_path: Path) -> None:
    for value in ("not JSON", '{"a": 1}', "[1]"):
        tracker._client.set_experiment_tag(tracker._experiment_id, "visionbench.varied", value)
        tracker.log(write(tmp_path, *RESULTS, plan_more={"varied": {"device.threads": "1"}}))
        tags = tracker._client.get_experiment(tracker._experiment_id).tags
        assert tags["visionbench.varied"] == '["device.threads"]'
    assert "params.`device.threads`" in seeded_view(tracker)["selectedColumns"]


def test_the_view_of_an_earlier_version_is_replaced(tracker: MlflowTracker) -> None:
    earlier = {"orderByKey": "metrics.`old`", "selectedColumns": ["params.`ä`"]}
    digest = hashlib.sha256(json.dumps(earlier).encode()).hexdigest()[:12]
    for key, value in ((view.TAG, view.tag_value(earlier, 0)), ("visionbench.view", digest)):
        tracker._client.set_experiment_tag(tracker._experiment_id, key, value)
    MlflowTracker(tracker.config, tracker.output_dir).open()
    assert seeded_view(tracker) == view.state(declared.bundled())


def test_charts_have_short_and_different_titles() -> None:
    charts = view.charts(declared.bundled())
    titles = [
        chart.get("displayName") or chart.get("metricKey") or f"{chart['xaxis']['key']} vs. {chart['yaxis']['key']}"
        for chart in charts
    ]
    places = [(chart["metricSectionId"], title) for chart, title in zip(charts, titles, strict=True)]
    assert len(set(places)) == len(places)
    assert {(view.CURVES, "p50 ms"), (view.LOADS, "p50 ms")} <= set(places)
    assert {"p50 ms", "img/s", "process MiB", "allocated MiB", "best img/s", "img/s vs. R@1"} <= set(titles)
    assert max(map(len, titles)) <= 16


def test_a_run_with_a_users_metric_adds_a_chart_to_the_view(tracker: MlflowTracker, tmp_path: Path) -> None:
    def charts() -> list[str]:
        return [chart["uuid"] for chart in seeded_view(tracker)["compareRunCharts"]]

    declarations = {
        "slow_calls": [{"name": "slow_calls_fraction", "unit": "fraction", "better": "lower", "table": True}]
    }
    usual = charts()
    tracker.log(write(tmp_path / "own", *RESULTS, declarations=declarations))
    assert set(charts()) - set(usual) == {"visionbench-line-slow_calls_fraction"}
    tracker.log(write(tmp_path / "usual", *RESULTS))
    MlflowTracker(tracker.config, tracker.output_dir).open()
    assert "visionbench-line-slow_calls_fraction" in charts()


def test_a_view_that_a_person_changed_is_kept(tracker: MlflowTracker) -> None:
    tracker._client.set_experiment_tag(tracker._experiment_id, view.TAG, "my own")
    MlflowTracker(tracker.config, tracker.output_dir).open()
    assert tracker._client.get_experiment(tracker._experiment_id).tags[view.TAG] == "my own"


def test_a_deleted_experiment_is_an_error_in_one_line(tracker: MlflowTracker) -> None:
    tracker._client.delete_experiment(tracker._experiment_id)
    with pytest.raises(TrackingError, match="it was deleted in .*; give another name"):
        MlflowTracker(tracker.config, tracker.output_dir).open()


def test_the_server_listens_on_this_machine_only(output_dir: Path) -> None:
    command, environment = MlflowTracker(TrackingConfig(), output_dir).server(5001)
    assert command[3:8] == ["ui", "--host", "127.0.0.1", "--port", "5001"]
    assert f"sqlite:///{output_dir / 'mlflow.db'}" in command
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_relative_file_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert MlflowTracker(TrackingConfig(uri="sqlite:///my.db"), Path("out")).uri == f"sqlite:///{tmp_path}/my.db"
    assert MlflowTracker(TrackingConfig(), Path("out")).uri == f"sqlite:///{tmp_path}/out/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [("http://me:{secret}@127.0.0.1:9", "Connection refused"), ("sqlite:///{folder}/text.db", "not a database")],
)
def test_a_store_that_cannot_be_opened_is_an_error_in_one_line(tmp_path: Path, uri: str, reason: str) -> None:
    (tmp_path / "text.db").write_text("not a database at all " * 20)
    with pytest.raises(TrackingError) as caught:
        MlflowTracker(TrackingConfig(uri=uri.format(secret=SECRET, folder=tmp_path)), tmp_path).open()
    message = str(caught.value)
    assert message.startswith("tracking.uri=")
    assert reason in message
    assert message.endswith("results are safe in the run folder; send them later with visionbench sync")
    assert "\n" not in message
    assert SECRET not in message
    with pytest.raises(TrackingError) as caught:
        MlflowTracker(TrackingConfig(uri=uri.format(secret=SECRET, folder=tmp_path)), tmp_path).page()
    assert str(caught.value) == message.partition("; results are safe")[0]


def test_two_processes_may_open_a_new_store_and_send_the_same_runs_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from visionbench.config import TrackingConfig\n"
        "from visionbench.trackers.mlflow import MlflowTracker\n"
        "tracker = MlflowTracker(TrackingConfig(), Path(sys.argv[1]))\n"
        "for folder in sys.argv[2:]: tracker.log(Path(folder))\n"
    )
    folders = [write(tmp_path, *RESULTS) for _ in range(2)]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "outputs"), *map(str, folders)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
        )
        for _ in range(2)
    ]
    assert [(child.communicate(timeout=60)[0], child.returncode) for child in children] == [(b"", 0)] * 2
    tracker = MlflowTracker(TrackingConfig(), tmp_path / "outputs")
    assert [run.info.status for run in runs(tracker)] == ["FINISHED"] * 2


def test_importing_the_module_imports_neither_mlflow_nor_matplotlib() -> None:
    code = "import sys, visionbench.trackers.mlflow; print({'mlflow', 'matplotlib', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


NASTY_NAMES = [
    *("what?", "50%20off #1", "a%2Fb", "%", "a%zz", " lead", "trail ", "ü 日本 😀", ";x", "@x", "me:pw@host", "-x"),
    *("a'b", 'a"b', "a\\b", "a&b=c,d", "+p", "$HOME", "${x}", "~x", "..x", "a:b", "file:x", "http:", "sqlite:", "[x]"),
    *("{a}", "*", "(a)!", "`x`", "a|b", "a<b>", "x?y=%3F#z;@", "mlartifacts", "x.db"),
]


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_a_folder_of_any_name_has_its_own_store(tracker: MlflowTracker, tmp_path: Path, name: str) -> None:
    outputs = tmp_path / name / "out"
    outputs.mkdir(parents=True)
    with (
        closing(sqlite3.connect(tracker.output_dir / "mlflow.db")) as store,
        closing(sqlite3.connect(outputs / "mlflow.db")) as copy,
    ):
        store.backup(copy)  # because a new store takes seconds
    tracker = MlflowTracker(TrackingConfig(experiment="lab"), outputs)
    folder = write(outputs, *RESULTS)
    tracker.log(folder)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (outputs / "mlartifacts" / only_run(tracker).info.run_id / "artifacts" / "run.json").is_file()
    assert "run.json" in {item.path for item in tracker._client.list_artifacts(only_run(tracker).info.run_id)}
    again = MlflowTracker(replace(tracker.config, uri=tracker.uri), tmp_path / name)
    assert only_run(again).info.run_id == only_run(tracker).info.run_id
    assert [run.path for run in archive.folders(outputs)] == [folder]
    command, _ = tracker.server(5001)
    assert command[command.index("--backend-store-uri") + 1] == tracker.uri


def test_a_new_store_in_a_folder_with_special_characters_is_inside_it(tmp_path: Path) -> None:
    outputs = tmp_path / "x?y=%3F#z;@ ü" / "out"
    tracker = MlflowTracker(TrackingConfig(), outputs)
    tracker.log(write(outputs, *RESULTS))
    assert [path.name for path in tmp_path.iterdir()] == ["x?y=%3F#z;@ ü"]
    assert sorted(path.name for path in outputs.iterdir() if path.name.startswith("ml"))[:2] == [
        "mlartifacts",
        "mlflow.db",
    ]
    assert tracker._command() == shlex.join(["visionbench", "ui", "--output-dir", str(outputs)])


@pytest.mark.parametrize("uri", ["mlruns", "./mlflow.db", "/data/mlflow.db"])
def test_a_path_instead_of_an_address_is_an_error_with_the_address(tmp_path: Path, uri: str) -> None:
    with pytest.raises(TrackingError, match=r"tracking\.uri=.*: not an address; a SQLite file is sqlite:///"):
        MlflowTracker(TrackingConfig(uri=uri), tmp_path).open()
