"""The two metrics of docs/extending.md: with their declarations, they are in every view and comparison."""

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from saved_runs import BATCH, QUALITY, row, run

from visionbench import registry
from visionbench.core import ConfigError, Samples
from visionbench.declarations import Declarations
from visionbench.registry import find
from visionbench.report import document
from visionbench.results import declared
from visionbench.results.comparison import Rules, compare
from visionbench.terminal import table
from visionbench.trackers.mlflow import view

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def groups():
    """The metric groups of the page. They are registered only while they are built, as if uninstalled later."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", dict(registry._registered))
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
            exec(block, {"__name__": "own_metrics"})
        return {name: find("metrics", name)() for name in ("slow_calls", "wordiness")}


@pytest.fixture(scope="module")
def side(groups):
    """Make a side of a comparison: five processes with these values of the page's metrics."""
    written = Declarations.collect(groups).to_json()

    def make(slow_calls, wordiness, **more):
        timed = row(BATCH, latency_p50_ms=10.0, slow_calls_fraction=slow_calls)
        quality = row(QUALITY, captioning_cider_score=5.0, wordiness_ratio=wordiness)
        declarations = {**declared.bundled().to_json(), **written}
        return [run(timed, quality, **{"declarations": declarations, **more}) for _ in range(5)]

    return make


def verdicts(base, candidate, **rules):
    return {one.metric: one.verdict for one in compare(base, candidate, Rules(**rules)).rows}


def test_each_metric_of_the_page_has_a_declaration(groups):
    for name, group in groups.items():
        declarations = Declarations.collect({name: group})
        assert {declarations.find(metric).group for metric in group.compute(Samples()).values} == {name}


def test_the_terminal_table_has_a_column_for_each(side):
    file = StringIO()
    table.show(side(0.25, 1.5)[:1], Console(width=200, file=file))
    header, cells = (line for line in file.getvalue().splitlines() if line.strip()[:1] in ("b", "1"))
    assert re.split(r"  +", header.strip()) == ["batch", "p50 ms", "slow calls", "CIDEr", "wordiness"]
    assert cells.split() == ["1", "10", "0.250", "5.000", "1.500"]


def test_a_users_quality_metric_has_a_column_beside_four_bundled_metrics(side):
    recalls = {f"recall_{way}_at_{k}_fraction": 0.5 for way in ("i2t", "t2i") for k in (1, 5)}
    declarations = side(0.1, 1.0)[0].record.declarations
    file = StringIO()
    table.show([run(row(QUALITY, **recalls, wordiness_ratio=1.5), declarations=declarations)], Console(file=file))
    assert all(title in file.getvalue() for title in ("i→t R@1", "t→i R@5", "wordiness"))


@pytest.mark.parametrize(("language", "titles"), [("en", ("slow calls", "wordiness")), ("zh", ("慢调用", "冗长度"))])
def test_the_report_has_a_column_and_a_quality_figure_in_its_language(side, language, titles):
    report = document.compose(side(0.25, 1.5)[:1], language)
    summary = dict(zip(report.summary.headings, report.summary.rows[0], strict=True))
    assert summary[titles[0]] == "0.25"
    assert [cells[3:5] for cells in report.quality.rows] == [["CIDEr", "5"], [titles[1], "1.5"]]


def test_the_view_of_mlflow_has_a_curve_and_a_chart(side):
    added = view.added(side(0.25, 1.5)[0].declarations, declared.bundled())
    assert sorted(one.name for one in added.listed) == ["slow_calls_fraction", "wordiness_ratio"]
    usual, more = (view.state(declared.merged([declared.bundled(), each])) for each in (Declarations(), added))
    charts = [chart["uuid"] for chart in more["compareRunCharts"]]
    bundled_charts = [chart["uuid"] for chart in usual["compareRunCharts"]]
    assert [chart for chart in charts if chart not in bundled_charts] == [
        "visionbench-line-slow_calls_fraction",
        "visionbench-bar-wordiness_ratio",
    ]
    assert "metrics.`wordiness_ratio`" in more["selectedColumns"]


def test_a_comparison_has_a_verdict_by_the_declared_direction(side):
    verdict_by_metric = verdicts(side(0.2, 1.0), side(0.4, 0.8))
    assert (verdict_by_metric["slow_calls_fraction"], verdict_by_metric["wordiness_ratio"]) == ("worse", "better")
    verdict_by_metric = verdicts(side(0.4, 0.8), side(0.2, 1.0), metrics=("slow_calls_fraction", "wordiness_ratio"))
    assert verdict_by_metric == {"slow_calls_fraction": "better", "wordiness_ratio": "worse"}


def test_values_are_not_compared_if_an_option_of_the_metric_differs(side):
    five, ten = (side(0.2, 1.0, config={"metrics": {"slow_calls": {"limit_ms": limit}}}) for limit in (5.0, 10.0))
    [verdict_by_metric] = compare(five, ten, Rules(metrics=("slow_calls_fraction",))).rows
    assert verdict_by_metric.verdict == "not comparable"
    assert "metrics.slow_calls.limit_ms" in verdict_by_metric.reason


def test_a_metric_without_a_declaration_is_shown_without_a_direction(side):
    plain = side(0.2, 1.0, declarations={})
    assert "slow_calls_fraction" not in verdicts(plain, plain)
    with pytest.raises(
        ConfigError, match="declares no direction, so it has no verdict; declare the metric with better="
    ):
        compare(plain, plain, Rules(metrics=("slow_calls_fraction",)))
