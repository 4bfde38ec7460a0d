"""The table of cases: its columns and types, and three file formats that preserve every value."""

import json
from io import BytesIO, StringIO

import pandas as pd
import pyarrow.parquet
import pytest

from visionbench.core import OUT_OF_MEMORY, WARNED, Case, CaseResult, Metrics, Reason, Validity
from visionbench.machine import LIBRARIES
from visionbench.records.record import RunRecord
from visionbench.results import dataframe
from visionbench.results.archive import Run

AWKWARD = 0.1 + 0.2
HALF = Metrics({"latency_p50_ms": AWKWARD, "latency_p99_ms": None}, {"latency_p99_ms": 'few calls, "20"'})


def case(batch_size, status="ok", reason=None, metrics=HALF, validity=None, **labels):
    batch = Case(f"batch-{batch_size}", batch_size, ("latency",), ("latency",))
    return CaseResult(batch, status, reason, metrics, validity or Validity(), labels)


def run(*results, uid="12e34", started="2026-01-02T03:04:05.000+00:00", **more):
    """Return a run with texts that look like numbers, which a reader could convert by mistake."""
    return Run(
        RunRecord.from_json(
            {
                "uid": uid,
                "sweep": "2026-01-02",
                "started_at": started,
                "status": "failed",
                "git_commit": "0000001",
                "host": {"host": "here", "cpu": "Xeon, ä", "cpu_cores": 4, "memory_mib": 8000, "hydra-core": "1.30"},
                "plan": {
                    "name": "null · cuda:0 · bf16",
                    "model": "null",
                    "task": "t",
                    "device": "cuda:0",
                    "precision": "bf16",
                    "cases": [],
                    "protocol": "quick with a=1",
                },
                "config": {
                    "model": {"family": "f", "weights": "pretrained", "checkpoint": "org/x", "revision": "main"},
                    "precision": {"dtype": "bfloat16"},
                    "data": {"name": "shapes"},
                },
                **more,
            }
        ),
        results,
    )


LOADED = {
    "model": {"checkpoint": "org/x", "revision": "123456", "dtype": "bfloat16"},
    "device": {"device_name": "H100", "driver": "550.10", "cuda": "12.80", "threads": 8},
    "data": {"name": "shapes", "annotations_sha256": "77"},
}
RUNS = [
    run(
        case(1, validity=Validity(WARNED, (Reason("run_delay", "3 %, ü"),)), distinct_inputs="64", processes="5"),
        case(2, OUT_OF_MEMORY, "no room,\nnot any", Metrics()),
        **LOADED,
    ),
    run(case(4, metrics=Metrics({"load_s": 1e-17, "throughput_images_per_s": 1e300})), uid="b"),
]


@pytest.fixture(scope="module")
def table():
    return dataframe.cases(RUNS)


EXACT = {} if pd.__version__ >= "3" else {"float_precision": "round_trip"}
"""Options of `read_csv` with which it keeps every digit. In pandas 3, this is the default."""


def assert_same_values(read, table):
    """Assert that every value is preserved, whatever its type after reading."""
    typed = pd.DataFrame({name: read[name].astype(kind) for name, kind in table.dtypes.items()})
    pd.testing.assert_frame_equal(typed, table, check_exact=True)


# -------------------------------------------------------------------------------------------------------------- columns
def test_a_row_is_a_case_with_the_conditions_of_its_run(table):
    assert list(table["batch_size"]) == [1, 2, 4]
    first = table.iloc[0]
    assert first["uid"] == "12e34" and first["run"] == "null · cuda:0 · bf16" and first["run_status"] == "failed"
    assert (first["driver"], first["cuda"], first["revision"], first["threads"]) == ("550.10", "12.80", "123456", 8)
    assert (first["processes"], first["distinct_inputs"], first["data_digest"]) == (5, 64, "77")
    assert first["started_at"] == pd.Timestamp("2026-01-02T03:04:05", tz="UTC")
    assert json.loads(first["validity_reasons"]) == ["run_delay: 3 %, ü"]
    assert (first["host_memory_mib"], first["version_hydra_core"]) == (8000, "1.30")


def test_metric_columns_are_sorted_by_name_between_identity_and_reasons(table):
    identity = [name for name in dataframe.TYPES if name != "reasons"]
    metrics = ["latency_p50_ms", "latency_p99_ms", "load_s", "throughput_images_per_s"]
    assert list(table) == [*identity, *metrics, "reasons"]
    assert table["latency_p50_ms"].tolist()[0] == AWKWARD
    assert table["load_s"].isna().tolist() == [True, True, False]


def test_the_reasons_of_null_metrics_are_in_one_column(table):
    assert pd.isna(table["latency_p99_ms"][0])
    assert json.loads(table["reasons"][0]) == {"latency_p99_ms": 'few calls, "20"'}
    assert table["reasons"].isna().tolist() == [False, True, True]


def test_a_case_without_numbers_has_no_validity(table):
    failed = table.iloc[1]
    assert (failed["status"], failed["reason"]) == (OUT_OF_MEMORY, "no room,\nnot any")
    assert failed[["validity", "validity_reasons", "processes"]].isna().all()


def test_a_run_whose_model_did_not_load_has_the_checkpoint_and_dtype_of_its_config(table):
    assert table["checkpoint"][2] == "org/x" and table["dtype"][2] == "bfloat16"
    assert table.loc[2, ["device_name", "driver", "threads", "data_digest"]].isna().all()


def test_column_types_do_not_depend_on_the_selected_runs(table):
    empty = dataframe.cases([])
    assert list(empty) == list(dataframe.TYPES)
    for name, kind in dataframe.TYPES.items():
        assert table[name].dtype == empty[name].dtype == kind


def test_every_recorded_version_is_a_column():
    assert set(dataframe.VERSIONS) == {"python", *LIBRARIES}


# ---------------------------------------------------------------------------------------------------------------- files
def test_parquet_preserves_every_value_and_has_the_version_of_the_program(table):
    content = dataframe.parquet(table, "1.2.3")
    pd.testing.assert_frame_equal(pd.read_parquet(BytesIO(content)), table, check_exact=True)
    about = pyarrow.parquet.read_schema(BytesIO(content)).metadata[dataframe.ABOUT]
    assert json.loads(about) == {"schema": dataframe.SCHEMA, "version": "1.2.3"}


def test_csv_preserves_every_value(table):
    text = dataframe.csv(table)
    types = {name: kind for name, kind in dataframe.TYPES.items() if kind != dataframe.TIME}
    read = pd.read_csv(
        StringIO(text),
        dtype=types,
        parse_dates=["started_at"],
        keep_default_na=False,
        na_values=[""],
        **EXACT,
    )
    assert read["schema"].tolist() == [dataframe.SCHEMA] * 3
    assert next(iter(read)) == "schema"
    assert read["started_at"].dt.tz is not None
    assert_same_values(read, table)


def test_json_preserves_every_value(table):
    text = dataframe.json_text(table)
    content = json.loads(text, parse_constant=pytest.fail)
    assert content["schema"] == dataframe.SCHEMA
    assert content["cases"][0]["started_at"] == "2026-01-02T03:04:05.000000+00:00"
    assert content["cases"][1]["latency_p50_ms"] is None
    assert_same_values(pd.DataFrame(content["cases"]), table)
    types = {name: kind for name, kind in dataframe.TYPES.items() if kind != dataframe.TIME}
    assert_same_values(pd.read_json(StringIO(json.dumps(content["cases"])), precise_float=True, dtype=types), table)


def test_a_table_without_cases_has_all_columns():
    empty = dataframe.cases([])
    assert json.loads(dataframe.json_text(empty)) == {"schema": dataframe.SCHEMA, "cases": []}
    assert dataframe.csv(empty).splitlines() == [",".join(["schema", *dataframe.TYPES])]
    read = pd.read_parquet(BytesIO(dataframe.parquet(empty, "0")))
    assert read.dtypes.equals(empty.dtypes)


def test_csv_has_no_formula_and_line_feeds_survive_a_round_trip():
    reason = '=HYPERLINK(1)\nsecond line, with "quotes"'
    texts = [reason, "-1", "+1", "@x", "plain\nline", "a=b"]
    table = dataframe.cases([run(*(case(1, "failed", text) for text in texts))])
    read = pd.read_csv(StringIO(dataframe.csv(table)))
    assert read["reason"].tolist() == [f"'{text}" for text in texts[:4]] + texts[4:]
    rows = json.loads(dataframe.json_text(table))["cases"]
    assert [row["reason"] for row in rows] == texts
