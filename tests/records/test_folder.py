"""The run's folder: files read back as they were written, also after a crash, and unreadable content is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from saved_runs import record

from visionbench.core import FAILED, OK, Case, CaseResult, ConfigError, Metrics, Predictions, Reason, Samples, Validity
from visionbench.records.folder import SCHEMA_VERSION, RunFolder

CASE = Case("batch-4", 4, ("warmup", "latency"), ("latency",))
RESULT = CaseResult(
    CASE,
    OK,
    metrics=Metrics(
        {"latency_p50_ms": 1 / 3, "latency_mean_ms": np.float64(1e-9), "latency_p99_ms": None},
        {"latency_p99_ms": "8 calls, and p99 needs 368"},
    ),
    validity=Validity("warned", (Reason("not_converged", "±3 %, 日本語"),)),
    labels={"protocol": "quick"},
)
SAMPLES = Samples(
    {"latency/host_s": np.array([0.1, 0.2, 1 / 3]), "work/images_count": np.array([4.0])},
    {"latency/device_s": "cpu has no queue"},
    {"not_converged": "±3 % · 日本語"},
)


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", "model:\n  name: clip_tiny\n")


def torn(folder):
    """Cut the last row in two, as a crash while writing does."""
    path = folder.path / "results.jsonl"
    path.write_text(path.read_text()[:-40])


def test_a_row_reads_back_as_it_was_appended(folder):
    folder.append(RESULT, SAMPLES)
    assert RunFolder.open(folder.path).results() == [RESULT]


def test_rows_are_read_in_the_order_of_the_measurement(folder):
    later = CaseResult(Case("batch-1", 1, (), ()), FAILED, "RuntimeError: “no”\nroom")
    for result in (RESULT, later):
        folder.append(result, Samples())
    assert folder.results() == [RESULT, later]


def test_samples_read_back_bit_for_bit_with_reasons_and_flags(folder):
    folder.append(RESULT, SAMPLES)
    read = folder.samples("batch-4")
    assert list(read.series) == list(SAMPLES.series)
    for name, values in SAMPLES.series.items():
        assert read.series[name].dtype == np.float64
        np.testing.assert_array_equal(read.series[name], values)
    assert (read.missing, read.flags) == (SAMPLES.missing, SAMPLES.flags)


def test_a_case_without_samples_keeps_its_reasons(folder):
    folder.append(RESULT, Samples(missing={"latency/host_s": "it failed before"}))
    assert folder.samples("batch-4") == Samples({}, {"latency/host_s": "it failed before"})
    assert not list((folder.path / "samples").iterdir())


def test_nan_is_refused_and_not_written(folder):
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.append(CaseResult(CASE, OK, metrics=Metrics({"latency_p50_ms": float("nan")})), Samples())
    assert folder.results() == []


def test_a_row_is_on_disk_before_the_next_case_begins(folder):
    folder.append(RESULT, SAMPLES)
    rows = (folder.path / "results.jsonl").read_text()
    assert rows.endswith("\n") and json.loads(rows)["schema"] == SCHEMA_VERSION


def test_a_truncated_last_line_loses_only_its_row(folder):
    folder.append(RESULT, SAMPLES)
    folder.append(CaseResult(Case("batch-8", 8, (), ()), OK), Samples())
    torn(folder)
    assert folder.results() == [RESULT]
    assert len(folder.samples("batch-4").get("latency/host_s")) == 3


def test_a_folder_whose_only_row_is_truncated_is_empty(folder):
    folder.append(RESULT, Samples())
    torn(folder)
    assert folder.results() == []


def test_a_broken_line_before_the_end_is_an_error(folder):
    folder.append(RESULT, Samples())
    path = folder.path / "results.jsonl"
    path.write_text("{broken\n" + path.read_text())
    with pytest.raises(ConfigError, match=r"results\.jsonl, line 1 is not valid JSON \(Expecting property name"):
        folder.results()


def test_the_config_is_stored_unchanged(folder):
    assert (folder.path / "config.yaml").read_text() == "model:\n  name: clip_tiny\n"
    assert folder.config() == {"model": {"name": "clip_tiny"}}


def test_a_folder_with_results_is_not_overwritten(folder):
    folder.append(RESULT, SAMPLES)
    with pytest.raises(ConfigError, match=f"^hydra.run.dir={folder.path}: there are results already"):
        RunFolder.create(folder.path, "")
    assert folder.results() == [RESULT]


def test_a_folder_without_results_is_not_a_runs_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"not a run's folder \(it has no results.jsonl\)"):
        RunFolder.open(tmp_path)


def test_a_row_of_a_newer_schema_is_refused(folder):
    folder.append(RESULT, Samples())
    path = folder.path / "results.jsonl"
    path.write_text(path.read_text().replace(f'"schema": {SCHEMA_VERSION}', f'"schema": {SCHEMA_VERSION + 1}'))
    with pytest.raises(ConfigError, match=rf"a newer visionbench \(schema {SCHEMA_VERSION + 1}\); update to read it"):
        folder.results()


def test_a_record_reads_back_and_the_last_one_counts(folder):
    folder.write_record(record(status="running", device={"device_name": "Grün"}))
    last = record(status="finished")
    folder.write_record(last)
    assert folder.record() == last
    assert not (folder.path / "run.json.draft").exists()


def test_a_record_that_json_cannot_hold_is_refused_and_the_last_one_stays(folder):
    first = record()
    folder.write_record(first)
    with pytest.raises(ConfigError, match=r"^run\.json\.model\.folder: PosixPath\('x'\) has the type PosixPath"):
        folder.write_record(first.with_identities({"folder": Path("x")}, {}, {}, {}))
    assert folder.record() == first


PREDICTIONS = Predictions(
    ["a.jpg", "b/日本.jpg", "c"],
    {
        "image_embedding": [np.float32([0.1, 1 / 3]), np.float32([np.pi, 0]), np.float32([-0.0, 1e-40])],
        "caption_embeddings": [np.ones((n, 2), np.float32) * n for n in (2, 0, 1)],
        "caption": ["a red ring", "", "“ring”\n"],
        "references": [["a", "b"], [], ["c"]],
        "masks": [[["RLE", "x"], ["y"]], [], [[]]],
        "count": [1, 0, 7],
        "tensor": [np.arange(n * 6, dtype=np.int64).reshape(n, 2, 3) for n in (1, 3, 0)],
    },
    ["ring and star", "日本"],
)


def test_predictions_read_back_as_they_were_appended(folder):
    folder.append(RESULT, SAMPLES, PREDICTIONS)
    read = RunFolder.open(folder.path).predictions()
    assert (read.ids, read.classes) == (PREDICTIONS.ids, PREDICTIONS.classes)
    assert list(read.columns) == list(PREDICTIONS.columns)
    for name, entries in PREDICTIONS.columns.items():
        for entry, back in zip(entries, read.columns[name], strict=True):
            if isinstance(entry, np.ndarray):
                assert back.dtype == entry.dtype
                np.testing.assert_array_equal(back, entry)
            else:
                assert back == entry


def test_predictions_are_a_table_that_pandas_reads(folder):
    folder.append(RESULT, SAMPLES, PREDICTIONS)
    frame = pd.read_parquet(folder.predictions_file)
    assert list(frame["id"]) == PREDICTIONS.ids
    assert frame["caption"][0] == "a red ring"
    np.testing.assert_array_equal(frame["image_embedding"][0], PREDICTIONS.columns["image_embedding"][0])


def test_a_folder_without_predictions_has_none(folder):
    folder.append(RESULT, SAMPLES)
    assert folder.predictions() is None


def test_the_latest_row_of_a_case_is_its_result_and_earlier_rows_stay_in_the_file(folder):
    killed, other = CaseResult(CASE, FAILED, "killed"), replace(RESULT, case=Case("batch-8", 8, (), ()))
    for result in (killed, other, RESULT):  # only the last row has samples
        folder.append(
            result, SAMPLES if result is RESULT else Samples({}, flags={"not_converged": "of an earlier row"})
        )
    assert folder.results() == [other, RESULT]
    assert folder.samples(CASE.id).flags == SAMPLES.flags
    assert len((folder.path / "results.jsonl").read_text().splitlines()) == 3


def test_a_further_session_removes_a_torn_row_before_it_appends(folder):
    folder.append(replace(RESULT, case=Case("batch-8", 8, (), ())), Samples())
    folder.append(RESULT, SAMPLES)
    torn(folder)
    again = RunFolder.rejoin(folder.path, "model:\n  name: sam_tiny\n")
    again.append(RESULT, SAMPLES)
    assert [result.case.id for result in again.results()] == ["batch-8", "batch-4"]
    assert again.config() == {"model": {"name": "sam_tiny"}}


def test_a_row_without_samples_removes_the_samples_of_an_earlier_row(folder):
    folder.append(RESULT, SAMPLES)
    folder.append(CaseResult(CASE, FAILED, "no memory"), Samples())
    assert folder.samples(CASE.id) == Samples()
