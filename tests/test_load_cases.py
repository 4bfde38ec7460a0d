"""The cases of loads: their kind and order, their rows in a run's folder, and their steps in MLflow."""

from __future__ import annotations

import io
from dataclasses import asdict, replace

import pytest
import yaml
from rich.console import Console

from tests import saved_runs
from tests.saved_runs import row
from visionbench import core, runner
from visionbench.declarations import Declarations
from visionbench.measuring import CaseFinished, StageProgress
from visionbench.plan import plan
from visionbench.records.folder import RunFolder
from visionbench.report import load_figures
from visionbench.report.page import write_report
from visionbench.results.archive import Run
from visionbench.terminal import table
from visionbench.trackers.mlflow import content, view

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


# ------------------------------------------------------------------------------------------------- tables and charts
DECLARATIONS = {
    "serving": [
        {"name": "serving_mean_ms", "unit": "ms", "title": "mean ms", "axis": "load", "table": True, "order": 1},
        {"name": "serving_hidden_ms", "unit": "ms", "axis": "load"},
        {"name": "serving_largest_per_s", "unit": "1/s", "title": "largest load/s", "table": True, "order": 60},
    ],
    "throughput": [
        {"name": "throughput_images_per_s", "unit": "images/s", "title": "img/s", "table": True, "order": 5}
    ],
}


def under_load(*rows):
    return saved_runs.run(*rows, declarations=DECLARATIONS)


def printed(*runs, width=100):
    console = Console(width=width, file=io.StringIO())
    console.print(table.render(runs, width))
    return console.file.getvalue()


@pytest.fixture
def rows():
    failing = row(load(16.0), serving_mean_ms=80.5, verdict="invalid", reasons=["unstable: the queue grows"])
    ends = {"serving_largest_low_per_s": 8.0, "serving_largest_high_per_s": 16.0}
    return [
        row(throughput_images_per_s=100.0),
        replace(failing, labels={"load_decision": "fails"}),
        row(load(8.0), serving_mean_ms=12.25, serving_hidden_ms=99.75),
        row(SEARCH, serving_largest_per_s=8.0, **ends),
        row(QUALITY),
    ]


def test_a_run_has_a_table_of_its_loads_in_order_with_their_marks(rows):
    text = printed(under_load(*rows))
    lines = [line.split() for line in text.splitlines()]
    assert ["load/s", "bound", "mean", "ms"] in lines
    assert lines.index(["8", "12.25"]) < lines.index(["16", "fails", "80.5", "!"])
    assert "99.75" not in text
    assert "largest load/s 8 [8, 16]" in text
    assert "unstable: the queue grows" in text


def test_loads_are_no_rows_of_the_table_of_batch_sizes(rows):
    text = printed(under_load(*rows))
    heading = next(line for line in text.splitlines() if line.split()[:1] == ["batch"])
    assert "img/s" in heading and "mean ms" not in heading
    assert not [line for line in text.splitlines() if line.split()[:1] == ["–"]]


def test_a_metric_that_no_load_has_a_value_of_is_a_line_with_the_reason():
    few = {"serving_mean_ms": "8 queries are too few"}
    text = printed(under_load(row(load(8.0), none=few)))
    assert "mean ms: 8 queries are too few" in text
    assert ["load/s"] in [line.split() for line in text.splitlines()]


def test_clients_have_a_column_of_their_number():
    text = printed(under_load(row(clients(2), serving_mean_ms=3.0), row(clients(1), serving_mean_ms=2.0)))
    lines = [line.split() for line in text.splitlines()]
    assert lines.index(["clients", "mean", "ms"]) < lines.index(["1", "2"]) < lines.index(["2", "3"])


def test_a_load_without_numbers_has_its_status_in_the_table_of_loads():
    failed = row(load(4.0), status=core.FAILED, reason="a broken call")
    text = printed(under_load(row(load(2.0), serving_mean_ms=1.5), failed))
    assert ["4", "–", "failed"] in [line.split() for line in text.splitlines()]
    assert "a broken call" in text


def test_the_table_of_a_sweep_has_the_largest_load_of_each_run(rows):
    text = printed(under_load(*rows), under_load(rows[0], rows[3]))
    lines = text.splitlines()
    heading = next(line for line in text.splitlines() if "batch" in line)
    assert "largest load/s" in heading
    assert sum(line.split()[-1:] == ["8"] for line in lines) == 2


def test_mlflow_has_a_section_of_charts_over_load_and_a_bar_for_the_largest_load():
    charts = {chart["uuid"]: chart for chart in view.charts(Declarations.from_json(DECLARATIONS))}
    sections = {name: chart["metricSectionId"] for name, chart in charts.items()}
    assert sections["visionbench-line-serving_mean_ms"] == view.LOADS
    assert sections["visionbench-line-throughput_images_per_s"] == view.CURVES
    assert sections["visionbench-bar-serving_largest_per_s"] == view.BEST
    assert "visionbench-line-serving_largest_per_s" not in sections


# ----------------------------------------------------------------------------------------------------------- the report
def test_the_report_has_a_table_and_figures_of_the_loads(rows, tmp_path):
    write_report([under_load(*rows)], "en", tmp_path)
    text = (tmp_path / "report.md").read_text()
    section = text.partition("## Under load")[2].partition("\n## ")[0]
    assert "largest load/s 8 [8, 16]" in section
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    assert lines[0][-4:] == ["load, requests/s", "verdict", "bound", "mean ms"]
    assert [line[-4:] for line in lines[2:]] == [["8", "valid", "–", "12.25"], ["16", "! invalid", "fails", "80.5"]]
    assert [path.name for path in sorted((tmp_path / "figures").glob("loads-*.png"))] == ["loads-1.png"]


def test_the_figure_of_latency_has_the_interval_of_the_largest_load(rows):
    (figure,) = load_figures.figures([under_load(*rows)], "en")
    (axes,) = figure.figure.axes
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == (8.0, 16.0)
    assert [float(x) for line in axes.lines[:1] for x in line.get_xdata()] == [8.0, 16.0]


def test_a_report_without_loads_has_no_section_of_loads(tmp_path):
    write_report([saved_runs.run(saved_runs.speed(1.0))], "en", tmp_path)
    assert "Under load" not in (tmp_path / "report.md").read_text()
    assert "Under load" not in (tmp_path / "report.html").read_text()
