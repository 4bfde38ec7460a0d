"""`visionbench export`, and docs/results.md against the columns and metrics that a real run with all metrics has."""

import json
import re
from io import StringIO
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import FEW_CALLS_EACH_STAGE, call, here

from visionbench import __version__
from visionbench.core import Samples
from visionbench.examples import denominators
from visionbench.metrics.utilization import COUNTERS
from visionbench.registry import find, names
from visionbench.results import archive, dataframe, repeats

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
WORK = {f"work/{unit}_count": np.array([2.0]) for unit in ("images", "texts", "prompts", "tokens")}
COUNTED = ("pictures", "captions", "instances")
GPM = {f"telemetry/{name}": np.array([0.5]) for name in COUNTERS}


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
def test_csv_is_all_that_stands_on_standard_output(folder, table):
    done = call(folder, "export")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == dataframe.csv(table)
    read = pd.read_csv(StringIO(done.stdout))
    assert list(read["case"]) == ["batch-1", "quality"]
    assert read["latency_p50_ms"].tolist()[0] == table["latency_p50_ms"][0]


def test_json_goes_to_a_file_where_one_is_named(folder, table):
    done = here(folder, "export", "latest", "--format", "json", "--output", "cases.json")
    assert (done.returncode, done.stdout) == (0, "2 cases of 1 run in cases.json\n")
    content = json.loads((folder / "cases.json").read_text(), parse_constant=pytest.fail)
    assert content["cases"][0]["latency_p50_ms"] == table["latency_p50_ms"][0]


def test_parquet_wants_a_file(folder, table):
    done = here(folder, "export", "--format", "parquet")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--output FILE" in done.stderr and done.stderr.count("\n") == 1
    assert here(folder, "export", "--format", "parquet", "--output", "cases.parquet").returncode == 0
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "cases.parquet"), table, check_exact=True)
    assert __version__.encode() in (folder / "cases.parquet").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--where", "model=sam"], "--where model=sam: no run has model=sam; there are: clip_tiny"),
        (["--output", "nowhere/cases.csv"], "--output nowhere/cases.csv: No such file or directory"),
        (["yesterday"], "'yesterday': no such sweep in outputs"),
    ],
)
def test_what_cannot_be_had_is_told_in_a_line(folder, words, said):
    done = here(folder, "export", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"visionbench: {said}") and done.stderr.count("\n") == 1


# ----------------------------------------------------------------------------------------------------------------- docs
def spelt_out(name):
    """`a_{x,y}` → `a_x`, `a_y`."""
    parts = [part.split(",") for part in re.split(r"[{}]", name)]
    return ["".join(choice) for choice in product(*parts)]


def documented(heading):
    """The names in the first column of the tables below a heading, up to the next of its level."""
    level = heading.partition(" ")[0]
    text = PAGE.read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    text = re.split(rf"^#{{1,{len(level)}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    return [one for name in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE) for one in spelt_out(name)]


def measurable(table):
    """Every metric's name: those of a real run, of each group on its samples, and of intervals over processes."""
    found = set(table) - set(dataframe.TYPES)
    for group in names("metrics"):
        found |= set(find("metrics", group)().compute(Samples({**WORK, **GPM})).values)
    counted = {f"data/{kind}_{of}_count": np.array([1.0]) for kind in COUNTED for of in ("used", "found")}
    found |= set(denominators.compute_metrics(Samples(counted)).values)
    across = {f"{repeats.ACROSS}{name}": np.array([1.0, 2.0, 3.0]) for name in repeats.HEADLINES}
    return found | set(repeats.across(Samples(across)).values)


def pattern(name):
    return re.compile(re.escape(name).replace("<k>", r"\d+").replace("<part>", "[a-z]+"))


def test_every_identity_column_is_documented_with_its_type():
    assert documented("### Identity columns") == list(dataframe.TYPES)
    words = {dataframe.STRING: "string", dataframe.INTEGER: "integer", dataframe.TIME: "time"}
    page = PAGE.read_text(encoding="utf-8")
    for name, kind in dataframe.TYPES.items():
        assert f"| `{name}` | {words[kind]} |" in page


def test_every_metric_is_documented_and_no_other(table):
    told, real = documented("## Metrics"), measurable(table)
    assert len(told) == len(set(told))
    patterns = [pattern(name) for name in told]
    assert [name for name in sorted(real) if not any(one.fullmatch(name) for one in patterns)] == []
    assert [one.pattern for one in patterns if not any(one.fullmatch(name) for name in real)] == []


def test_metrics_are_documented_below_their_group():
    for group in names("metrics"):
        told = documented(f"### {group}")
        assert told and all(name.startswith(f"{group}_") for name in told), group


def test_the_filters_that_the_page_names_are_those_there_are():
    text = PAGE.read_text(encoding="utf-8").partition("`--where` takes")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"`(\w+)`", text)) == archive.FACTS


def test_the_page_names_the_schema_of_the_table():
    assert f"The table's `schema` is {dataframe.SCHEMA}." in PAGE.read_text(encoding="utf-8")


def test_the_example_in_pandas_runs(folder, monkeypatch):
    for kind in ("csv", "json", "parquet"):
        assert here(folder, "export", "--format", kind, "--output", f"cases.{kind}").returncode == 0
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(folder)
    found = {}
    exec(example, found)
    assert list(found["cases"]["git_commit"]) == list(found["pd"].read_parquet("cases.parquet")["git_commit"])
    assert list(found["good"]["case"]) in (["batch-1"], [])  # a busy machine may have spoilt it
