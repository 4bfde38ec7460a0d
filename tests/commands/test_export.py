"""`visionbench export`; docs/results.md and the declarations against a real run with all metrics."""

import importlib.util
import json
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import FEW_CALLS_EACH_STAGE, call, here

from visionbench import __version__
from visionbench.core import Samples
from visionbench.declarations import interval_parts, pattern
from visionbench.examples import denominators
from visionbench.metrics.utilization import COUNTERS
from visionbench.registry import find, names
from visionbench.results import archive, dataframe, declared, repeats

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
WORK = {f"work/{unit}_count": np.array([2.0]) for unit in ("images", "texts", "prompts", "tokens")}
TEXTS_ONLY = {"work/texts_count": np.array([2.0])}
COUNTED = ("pictures", "captions", "questions", "instances")
RUNTIME = {f"load/{name}": np.array([1.0]) for name in ("export_s", "quantize_s", "compile_s", "file_bytes")}
PIXELS = {f"parity/{of}_{kind}_levels": np.array([1.0]) for of in ("decoder", "input") for kind in ("mean", "max")}
SEMANTIC = ("true_index", "predicted_index", "pixels_count", "cells_per_picture", "classes_count")
CLASSES = {f"semantic_segmentation/{name}": np.array([float(not name.endswith("index"))]) for name in SEMANTIC}
GPM = {f"telemetry/{name}": np.array([0.5]) for name in COUNTERS}

ENDPOINT = {
    **{"requests/kind_index": np.zeros(1), "requests/with_retries_s": np.ones(1)},
    **{f"attempts/{name}": np.ones(1) for name in ("number_count", "duration_s", "cost_amount", "truncated_count")},
    **{f"attempts/{name}_bytes": np.ones(1) for name in ("sent", "received")},
    **{f"attempts/{name}_tokens_count": np.ones(1) for name in ("input", "output")},
    **{"attempts/kind_index": np.zeros(1), "attempts/first_token_s": np.ones(1)},
    **{f"classification/{name}": np.zeros(1) for name in ("no_class_count", "true_index", "predicted_index")},
    **{f"classification/{name}": np.ones(1) for name in ("true_rank", "classes_count")},
}
"""Samples of a model at an endpoint."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with one run of clip_tiny with all metrics."""
    folder = tmp_path_factory.mktemp("export")
    done = here(folder, "run", "model=clip_tiny", "batch=single", "metrics=[all]", *FEW_CALLS_EACH_STAGE)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def table(folder):
    return dataframe.cases(archive.read(folder / "outputs"))


# -------------------------------------------------------------------------------------------------------------- command
def test_csv_is_the_only_output(folder, table):
    done = call(folder, "export")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == dataframe.csv(table)
    read = pd.read_csv(StringIO(done.stdout))
    assert list(read["case"]) == ["batch-1", "load-20", "serving", "quality"]
    assert read["latency_p50_ms"].tolist()[0] == table["latency_p50_ms"][0]


def test_json_is_written_to_the_named_file(folder, table):
    done = here(folder, "export", "latest", "--format", "json", "--output", "cases.json")
    assert (done.returncode, done.stdout) == (0, "4 cases of 1 run in cases.json\n")
    content = json.loads((folder / "cases.json").read_text(), parse_constant=pytest.fail)
    assert content["cases"][0]["latency_p50_ms"] == table["latency_p50_ms"][0]


def test_parquet_needs_a_file(folder, table):
    done = here(folder, "export", "--format", "parquet")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--output FILE" in done.stderr and done.stderr.count("\n") == 1
    assert here(folder, "export", "--format", "parquet", "--output", "cases.parquet").returncode == 0
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "cases.parquet"), table, check_exact=True)
    assert __version__.encode() in (folder / "cases.parquet").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--where", "model=sam"], "--where model=sam: no run has model=sam; there are: clip_tiny"),
        (["--output", "nowhere/cases.csv"], "--output nowhere/cases.csv: No such file or directory"),
        (["yesterday"], "'yesterday': no such sweep in outputs"),
    ],
)
def test_an_export_that_cannot_be_made_is_refused_in_one_line(folder, words, message):
    done = here(folder, "export", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"visionbench: {message}") and done.stderr.count("\n") == 1


# ----------------------------------------------------------------------------------------------------------------- docs
def identity_columns():
    """The names in the first column of the table of identity columns."""
    text = PAGE.read_text(encoding="utf-8").partition("\n### Identity columns\n")[2].partition("\n#")[0]
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def measurable(table):
    """The names of all metrics: of a real run, of each group on its samples, and of intervals over processes."""
    measured = set(table) - set(dataframe.TYPES)
    for group in names("metrics"):
        for work in (WORK, TEXTS_ONLY, {**WORK, **PIXELS}):
            measured |= set(find("metrics", group)().compute(Samples({**work, **GPM, **RUNTIME, **CLASSES})).values)
        measured |= set(find("metrics", group)().compute(Samples(ENDPOINT)).values)
    counted = {f"data/{kind}_{of}_count": np.array([1.0]) for kind in COUNTED for of in ("used", "found")}
    measured |= set(denominators.compute_metrics(Samples(counted)).values)
    across = {f"{repeats.ACROSS}{name}": np.array([1.0, 2.0, 3.0]) for name in measured}
    return measured | set(repeats.across(Samples(across), declared.bundled()).values)


def test_every_identity_column_is_documented_with_its_type():
    assert identity_columns() == list(dataframe.TYPES)
    words = {dataframe.STRING: "string", dataframe.INTEGER: "integer", dataframe.TIME: "time"}
    page = PAGE.read_text(encoding="utf-8")
    for name, kind in dataframe.TYPES.items():
        assert f"| `{name}` | {words[kind]} |" in page


def test_the_declared_metrics_are_the_measured_metrics(table):
    declarations, measured = declared.bundled(), measurable(table)
    assert [name for name in sorted(measured) if declarations.find(name) is None] == []
    assert [one.name for one in declarations.members() if one.name not in measured] == []
    families = [pattern(one.name) for one in declarations.listed if "<" in one.name]
    assert [one.pattern for one in families if not any(map(one.fullmatch, measured))] == []


def test_the_intervals_that_are_declared_are_those_that_are_measured(table):
    measured = measurable(table)
    for one in declared.bundled().members():
        assert [part.name for part in interval_parts(one) if part.name not in measured] == []


def test_the_tables_of_metrics_are_those_of_the_declarations():
    spec = importlib.util.spec_from_file_location("metric_tables", PAGE.parents[1] / "scripts" / "metric_tables.py")
    metric_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metric_tables)
    page = PAGE.read_text(encoding="utf-8")
    assert metric_tables.written(page) == page, "run python scripts/metric_tables.py"


def test_the_documented_filters_are_the_existing_filters():
    text = PAGE.read_text(encoding="utf-8").partition("The keys are ")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"`(\w+)`", text)) == archive.FACTS


def test_the_page_names_the_schema_of_the_table():
    assert f"The `schema` of the table is {dataframe.SCHEMA}." in PAGE.read_text(encoding="utf-8")


def test_the_example_in_pandas_runs(folder, monkeypatch):
    for kind in ("csv", "json", "parquet"):
        assert here(folder, "export", "--format", kind, "--output", f"cases.{kind}").returncode == 0
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(folder)
    namespace = {}
    exec(example, namespace)
    assert list(namespace["cases"]["git_commit"]) == list(namespace["pd"].read_parquet("cases.parquet")["git_commit"])
    assert list(namespace["good"]["case"]) in (["batch-1"], [])  # a busy machine may have disturbed it
