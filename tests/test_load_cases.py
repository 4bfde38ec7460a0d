"""The cases of loads: their kind and order, their rows in a run's folder, and their steps in MLflow."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import yaml

from tests.saved_runs import row
from visionbench import core, runner
from visionbench.measuring import CaseFinished, StageProgress
from visionbench.plan import plan
from visionbench.records.folder import RunFolder
from visionbench.results.archive import Run
from visionbench.trackers.mlflow import content

SEARCH = core.Case(core.SERVING, 8, (core.SERVING,), ("serving",))
QUALITY = core.Case("quality", 32, ("evaluation",), ("recall",))


def load(requests_per_s):
    return core.Case(f"load-{requests_per_s:g}", 8, (core.SERVING,), ("serving",), load=requests_per_s)


def clients(count):
    return core.Case(f"clients-{count}", 8, (core.SERVING,), ("serving",), clients=count)


def test_a_case_is_a_batch_size_a_load_or_the_quality():
    batch = core.Case("batch-1", 1, ("latency",), ("latency",))
    assert [case.kind for case in (batch, SEARCH, load(2.5), clients(3), QUALITY)] == [
        "batch",
        "load",
        "load",
        "load",
        "quality",
    ]
    assert [case.offered for case in (batch, SEARCH, load(2.5), clients(3))] == [None, None, 2.5, 3]


def test_loads_come_after_batch_sizes_and_before_their_search_and_quality():
    sizes = [core.Case(f"batch-{size}", size, ("latency",), ()) for size in (1, 16)]
    cases = [*sizes, load(4.0), load(30.0), SEARCH, QUALITY]
    assert sorted(reversed(cases), key=lambda case: case.order) == cases


@pytest.fixture
def searched(own_config, monkeypatch, tmp_path):
    """A run whose measuring process measures three loads and then ends by an interrupt, or with the search's row."""

    def measure(ending):
        planned = replace(plan(own_config), cases=(SEARCH, QUALITY))

        def stream(*args, log):
            yield StageProgress("serving", SEARCH.id)
            for value in (4.0, 8.0, 6.0):
                yield CaseFinished(row(load(value), serving_mean_ms=value), core.Samples(), None)
            if ending is not None:
                raise ending
            yield CaseFinished(row(SEARCH), core.Samples(), None)
            yield CaseFinished(row(QUALITY), core.Samples(), None)

        monkeypatch.setattr(runner.worker, "stream", stream)
        folder = RunFolder.create(tmp_path / "run", yaml.safe_dump(asdict(own_config)))
        try:
            runner.run(own_config, planned, folder, "a sweep", lambda progress: None, {})
        except KeyboardInterrupt:
            assert ending is not None
        return Run(folder.record(), folder.results(), folder)

    return measure


def test_each_measured_load_is_a_row_and_a_case_of_the_plan(searched):
    run = searched(None)
    assert [each.case.id for each in run.loads] == ["load-4", "load-6", "load-8"]
    assert [case.id for case in run.record.plan.cases] == ["load-4", "load-6", "load-8", "serving", "quality"]
    assert run.load_search and run.load_search.status == core.OK
    assert run.quality and run.quality.case == QUALITY
    assert run.record.status == "finished"


def test_loads_keep_their_rows_if_their_search_is_interrupted(searched):
    run = searched(KeyboardInterrupt())
    assert [each.status for each in run.loads] == [core.OK] * 3
    assert run.load_search and run.load_search.status == core.INTERRUPTED
    assert run.quality and run.quality.status == core.NOT_RUN


def test_the_step_in_mlflow_is_the_load(searched):
    run = searched(None)
    steps = {(name, step) for name, _, step in content.metrics(run) if name == "serving_mean_ms"}
    assert steps == {("serving_mean_ms", 4), ("serving_mean_ms", 6), ("serving_mean_ms", 8)}


@pytest.mark.parametrize(
    ("loads", "steps"),
    [
        ([10.0, 20.4], [10, 20]),
        ([10.0, 10.2], [10000, 10200]),
        ([0.25, 2.0], [250, 2000]),
    ],
)
def test_steps_of_loads_are_per_second_unless_two_would_be_equal_or_zero(loads, steps):
    assert list(content.load_steps([row(load(value)) for value in loads]).values()) == steps


def test_steps_of_clients_are_their_number():
    assert list(content.load_steps([row(clients(count)) for count in (1, 4)]).values()) == [1, 4]
