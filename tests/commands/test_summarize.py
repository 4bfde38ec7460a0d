"""`visionbench summarize`: which differences between reported and recomputed values count."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from saved_runs import save

from visionbench.cli import cli
from visionbench.commands.summarize import differences
from visionbench.config import build_part
from visionbench.core import OK, Case, CaseResult, ConfigError, Metrics, Samples
from visionbench.measuring import compute

CASE = Case("batch-1", 1, ("latency",), ("latency",))


def result(value):
    return CaseResult(CASE, OK, metrics=Metrics({"latency_p50_ms": value}))


@pytest.mark.parametrize("recomputed", [1.8064469989285563, 1.8064469989133602])
def test_a_value_that_another_version_of_scipy_rounds_differently_is_the_same(recomputed):
    assert differences(result(1.8064469989285563), result(recomputed)) == []


@pytest.mark.parametrize("recomputed", [1.80644, float("nan"), None])
def test_a_changed_or_missing_value_is_reported(recomputed):
    lines = differences(result(1.8064469989285563), result(recomputed))
    assert lines == [f"batch-1 latency_p50_ms: reported 1.8064469989285563, now {recomputed}"]


# ---------------------------------------------------------------------------------------------------------------- runs
@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """A working folder with the sweeps `first`, with two runs of one process each, and `second`."""
    monkeypatch.chdir(tmp_path)
    for sweep, number in (("first", 0), ("first", 1), ("second", 0)):
        folder = save(tmp_path / "outputs" / sweep / f"{number}_clip_tiny", sweep=sweep)
        samples = Samples({"latency/host_s": np.linspace(0.01, 0.02, 20)})
        case = Case("batch-1", 1, ("latency",), ("latency",))
        blank = CaseResult(case, OK)
        values = recompute_with(folder, blank, samples)
        folder.append(values, samples)
    return tmp_path / "outputs"


def recompute_with(folder, blank, samples):
    """Return the row with the metrics of these samples."""
    metrics = compute({"latency": build_part("metrics", "latency", {}, "metrics.latency")}, samples)
    return CaseResult(blank.case, OK, metrics=metrics)


@pytest.mark.parametrize(
    "name, words",
    [
        ("latest", "outputs/second/0_clip_tiny/samples: all as reported"),
        ("second", "outputs/second/0_clip_tiny/samples: all as reported"),
        ("first", "from the samples of 2 runs in outputs/first: all as reported"),
        ("outputs/first", "from the samples of 2 runs in outputs/first: all as reported"),
        ("outputs", "from the samples of 3 runs in outputs: all as reported"),
        ("outputs/first/1_clip_tiny", "outputs/first/1_clip_tiny/samples: all as reported"),
        ("outputs/first/1_clip_tiny/results.jsonl", "outputs/first/1_clip_tiny/samples: all as reported"),
    ],
)
def test_a_run_or_a_sweep_is_named_by_latest_its_id_its_folder_or_its_results(outputs, name, words):
    done = CliRunner().invoke(cli, ["summarize", name], standalone_mode=False)
    assert done.exception is None and done.return_value == 0
    assert words in done.output
    elsewhere = CliRunner().invoke(cli, ["summarize", "latest", "--output-dir", "outputs/first"], standalone_mode=False)
    assert "2 runs in outputs/first" in elsewhere.output


@pytest.mark.parametrize("name", ["frst", "outputs/none", "", "notes.txt"])
def test_a_run_that_does_not_exist_is_refused_in_one_line(outputs, name):
    Path("notes.txt").touch()
    done = CliRunner().invoke(cli, ["summarize", name], standalone_mode=False)
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith(f"RUN '{name}'")


def test_samples_that_cannot_be_read_fail_and_the_other_runs_are_computed(outputs):
    (outputs / "first" / "0_clip_tiny" / "samples" / "batch-1.parquet").write_bytes(b"not parquet")
    done = CliRunner().invoke(cli, ["summarize", "first"], standalone_mode=False)
    assert done.return_value == 1
    assert "outputs/first/0_clip_tiny: the samples cannot be read (" in done.output
    assert "all as reported" not in done.output
