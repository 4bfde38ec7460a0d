"""Runs with a load generator: rows of loads and of clients, and rows that stay after an error."""

import json

import pytest
from command_line import here

from visionbench.core import OK
from visionbench.results import archive
from visionbench.stages import serving

SHORT = ["model=clip_tiny", "metrics=[serving]", "device=cpu", "device.threads=1", "tracking=none"]
SHORT += ["measure.serving.min_queries=20", "measure.serving.min_seconds=0.1", "measure.serving.max_seconds=2"]
SHORT += ["measure.retries=0", "measure.serving.warmup_calls=1", "data.options.samples=40"]


def run_of(folder, *words):
    done = here(folder, "run", *SHORT, *words)
    (run,) = archive.read(folder / "outputs")
    return done, run


def test_each_load_has_a_row_with_its_conditions_and_the_search_has_another(tmp_path):
    done, run = run_of(tmp_path, "serving.loads=[40,20]", "serving.max_batch=2")
    assert done.returncode == 0, done.stderr
    assert [row.case.id for row in run.loads] == ["load-20", "load-40"]
    for row in run.loads:
        assert row.metrics.values["serving_queries_count"] >= 18
        assert row.metrics.values["serving_batch_mean_count"] <= 2
        assert "poisson arrivals; seed 0; max_batch 2" in row.labels["load_conditions"]
    assert "p99 within 100 ms" in run.load_search.labels["load_statement"]


def test_a_closed_loop_has_a_row_for_each_number_of_clients(tmp_path):
    done, run = run_of(tmp_path, "serving.arrivals=closed", "serving.clients=[2,1]")
    assert done.returncode == 0, done.stderr
    assert [row.case.id for row in run.loads] == ["clients-1", "clients-2"]
    assert "closed loop" in run.loads[0].labels["load_conditions"]
    assert run.loads[0].metrics.values["serving_batch_mean_count"] == 1


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("a broken call"), "failed"), (MemoryError("no memory"), "out_of_memory")]
)
def test_loads_keep_their_rows_if_a_later_load_fails(tmp_path, monkeypatch, error, status):
    measured = serving.run

    def run(config, server, load, *rest):
        if load == 40:
            raise error
        return measured(config, server, load, *rest)

    monkeypatch.setattr(serving, "run", run)
    monkeypatch.setattr("visionbench.worker.stream", lambda generate, *args, log: generate(*args))
    try:
        here(tmp_path, "run", *SHORT, "serving.loads=[20,40]")
    except RuntimeError:
        assert status == "failed"
    (run_folder,) = (tmp_path / "outputs").iterdir()
    rows = [json.loads(line) for line in (run_folder / "results.jsonl").read_text().splitlines()]
    assert [(row["case"]["id"], row["status"]) for row in rows] == [("load-20", OK), ("serving", status)]
