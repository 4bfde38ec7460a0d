"""The view that MLflow's UI opens with: its columns, their order, and its charts.

The UI keeps a saved view in a tag of the experiment, in a format that is private to its version. This format was tested
with 3.17.2. Another version that cannot read it shows its default view, without any loss of results.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from visionbench.core import LOAD, QUALITY, SERVING, MetricDeclaration
from visionbench.declarations import Declarations

KEY = "visionbench"
TAG = f"mlflow.sharedViewState.{KEY}"

CURVES, BEST, QUALITY_SECTION = "Step = batch size", "Best of each run", "Quality and speed"
LOADS = "Step = load"
REST = "Model metrics"
"""The UI's name for the section of all other metrics, which is closed."""
CHARTS_PER_ROW = 2
"""The number of charts in a row. With three, the UI cuts the titles if its assistant is open on a small screen."""

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7b4fa3",
    "#8c564b",
    "#5a5a5a",
    "#9a9a00",
)
"""The colours of successive runs: those of Okabe and Ito's palette that are visible on white, and four more. Without
them, the UI chooses a colour by the id of the run, and successive runs may have the same colour."""

RUN_COLUMNS = {"params.`model`": 100, "params.`device`": 65, "params.`precision`": 80}
CONDITION_COLUMNS = {"params.`data`": 80, "tags.`visionbench.validity`": 145, "params.`task`": 170}
LAST_COLUMNS = {
    "attributes.`Dataset`": 250,
    "params.`protocol`": 90,
    "params.`device_name`": 200,
    "tags.`visionbench.weights`": 150,
    "tags.`visionbench.sweep`": 150,
}
"""Columns of the table and their widths in pixels. The columns of what differs between runs follow the first, those
of metrics the second."""
MOST_VARIED = 6
"""The largest number of columns of what differs between runs."""
BEST_SPEED, LOWEST_LATENCY = "best_throughput_images_per_s", "lowest_latency_p50_ms"
SUMMARY = (BEST_SPEED, LOWEST_LATENCY, "highest_memory_process_peak_mib", "best_throughput_batch_size")
"""Metrics of a run's summary that have a column."""
FIRST_CURVES = ("throughput_images_per_s", "latency_p50_ms")
"""The curves that are visible without scrolling."""
LONGEST_AXIS = 6
"""The number of characters of the quality in the title of a chart of quality against speed."""
BARS = {BEST_SPEED: "best img/s", LOWEST_LATENCY: "lowest p50 ms", "memory_weights_mib": "weights MiB"}
"""Metrics with one value per run that have a chart, and the titles of the charts."""


def colour_after(latest: str | None) -> str:
    """Return the colour of the run after a run of this colour, or the first colour after a run without one."""
    return COLOURS[(COLOURS.index(latest) + 1) % len(COLOURS)] if latest in COLOURS else COLOURS[0]


def path(experiment_id: str) -> str:
    """Return the path of the view below the address of the UI."""
    query = f"viewStateShareKey={KEY}&compareRunsMode=CHART&workflowType=machine_learning"
    return f"#/experiments/{experiment_id}/runs?{query}"


def tag_value(view: Mapping[str, Any], written_at_ms: int) -> str:
    """Return the value of the tag: names and times as plain text, the view itself compressed."""
    packed = base64.b64encode(zlib.compress(json.dumps(view).encode())).decode()
    return json.dumps(
        {
            "name": "visionbench",
            "createdAt": written_at_ms,
            "updatedAt": written_at_ms,
            "state": f"deflate;{packed}",
        }
    )


def written(value: str) -> dict[str, Any] | None:
    """Return the view in a value of the tag, or None if `tag_value` did not write the value."""
    try:
        kind, _, packed = json.loads(value)["state"].partition(";")
        view = json.loads(zlib.decompress(base64.b64decode(packed)))
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return None
    return view if kind == "deflate" and isinstance(view, dict) else None


def state(declarations: Declarations, varied: Sequence[str] = ()) -> dict[str, Any]:
    """Return the view: search, table and charts of the declared metrics, and columns of the params that differ."""
    columns = {
        **RUN_COLUMNS,
        **{f"params.`{name}`": _width(name) for name in varied[:MOST_VARIED]},
        **CONDITION_COLUMNS,
        **{f"metrics.`{name}`": _width(name) for name in SUMMARY},
        **{f"metrics.`{declaration.name}`": _width(declaration.name) for declaration in headlines(declarations)},
        **LAST_COLUMNS,
    }
    return {
        "searchFilter": "",
        "orderByKey": f"metrics.`{BEST_SPEED}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": ["attributes.`Run Name`", "attributes.`Created`", *columns],
        "columnWidths": {"attributes.`Run Name`": 235, **columns},
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": name, "name": name, "display": name != REST, "isReordered": True, "columns": CHARTS_PER_ROW}
            for name in (CURVES, LOADS, BEST, QUALITY_SECTION, REST)
        ],
        "compareRunCharts": charts(declarations),
    }


def charts(declarations: Declarations) -> list[dict[str, Any]]:
    """Return the charts: curves over batch size and over load, then one value of each run, then for each group its
    quality.

    The quality of a group begins with its main metric against speed, beside the bars of this metric.
    """
    curves_of = sorted(timed(declarations), key=lambda declaration: declaration.name not in FIRST_CURVES)
    titles = _titles(curves_of)
    curves = [_line(one, titles[one.name]) for one in curves_of if not _of_run(one)]
    best = [_bar(name, title, BEST) for name, title in BARS.items()]
    best += [_bar(one.name, titles[one.name], BEST) for one in curves_of if _of_run(one)]
    groups: dict[str, list[MetricDeclaration]] = {}
    for declaration in headlines(declarations):
        groups.setdefault(declaration.group, []).append(declaration)
    axes = _axis_titles([one for group in groups.values() for one in group if one.headline == 1])
    quality = [
        chart
        for group in groups.values()
        for chart in (
            *(_scatter(declaration, axes) for declaration in group if declaration.headline == 1),
            *(
                _bar(declaration.name, declaration.heading(), QUALITY_SECTION)
                for declaration in sorted(group, key=lambda declaration: declaration.headline)
            ),
        )
    ]
    return [*curves, *best, *quality]


def timed(declarations: Declarations) -> list[MetricDeclaration]:
    """Return the metrics that have a curve over batch size or over load, and those of the load search, in order."""
    shown = (declaration for declaration in declarations.members() if declaration.table and declaration.kind != QUALITY)
    return sorted(shown, key=lambda declaration: declaration.order)


def _of_run(declaration: MetricDeclaration) -> bool:
    """Return whether a run has one value of the metric: a result of the search for the largest load."""
    return declaration.group == SERVING and declaration.axis != LOAD


def headlines(declarations: Declarations) -> list[MetricDeclaration]:
    """Return the headline metrics, in order."""
    return sorted(
        (declaration for declaration in declarations.members() if declaration.headline),
        key=lambda declaration: declaration.order,
    )


def added(declarations: Declarations, shown: Declarations) -> Declarations:
    """Return the declarations of metrics that the view has a chart for and that are not among the shown ones."""
    charted = [
        declaration
        for declaration in (*timed(declarations), *headlines(declarations))
        if shown.find(declaration.name) is None
    ]
    return Declarations(tuple(dict.fromkeys(charted)))


def _width(metric: str) -> int:
    """Return the width of a column in pixels, because the UI cuts a heading after 11 characters."""
    return 15 + 7 * len(metric)


def _titles(declarations: Sequence[MetricDeclaration]) -> dict[str, str]:
    """Return a short title for each metric. Equal titles in a section become the words of the names that differ, with
    the unit."""
    counts = Counter((declaration.axis, declaration.heading()) for declaration in declarations)
    titles = {}
    for declaration in declarations:
        title = declaration.heading()
        others = {
            word
            for other in declarations
            if (other.axis, other.heading()) == (declaration.axis, title) and other.name != declaration.name
            for word in other.name.split("_")
        }
        words = (
            [word for word in declaration.name.split("_") if word not in others]
            if counts[declaration.axis, title] > 1
            else []
        )
        titles[declaration.name] = " ".join([*words, declaration.unit]) if words else title
    return titles


def _line(declaration: MetricDeclaration, title: str) -> dict[str, Any]:
    """Return a curve with two logarithmic axes and a mark at each step.

    The UI shows a title instead of a metric's name only for a metric of a node. Otherwise such a chart is the same.
    """
    metric = declaration.name
    return _card("LINE", metric, LOADS if declaration.axis == LOAD else CURVES) | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": title,
        "nodeLevelSystemMetricConfiguration": {"metric": metric, "type": "node"},
        "xAxisKey": "step",
        "xAxisScaleType": "log",
        "scaleType": "log",
        "lineSmoothness": 0,
        "displayPoints": True,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
    }


def _bar(metric: str, title: str, section: str) -> dict[str, Any]:
    """Return a chart with a bar for each run. The UI reads `dataAccessKey` and shows `metricKey` as the title."""
    return _card("BAR", metric, section) | {"metricKey": title, "dataAccessKey": metric}


def _axis_titles(metrics: Sequence[MetricDeclaration]) -> dict[str, str]:
    """Return a short and different title of each metric for the axis of a chart.

    A long title loses its first words. If that is the title of another metric, it loses its last words instead.
    """
    titles: dict[str, str] = {}
    for metric in sorted(metrics, key=lambda one: " " in one.heading()):
        first, last = metric.heading().split(" "), metric.heading().split(" ")
        while len(last) > 1 and len(" ".join(last)) > LONGEST_AXIS:
            first.pop()
            last.pop(0)
        titles[metric.name] = " ".join(first if " ".join(last) in titles.values() else last)
    return titles


def _scatter(quality: MetricDeclaration, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return a chart with speed on the horizontal axis and quality on the vertical axis.

    The UI writes "vs." between the titles of the axes above the chart.
    """
    axes = {
        axis: {"key": title, "dataAccessKey": metric, "type": "METRIC"}
        for axis, title, metric in (("xaxis", "img/s", BEST_SPEED), ("yaxis", titles[quality.name], quality.name))
    }
    return _card("SCATTER", f"{BEST_SPEED}-{quality.name}", QUALITY_SECTION) | axes


def _card(kind: str, key: str, section: str) -> dict[str, Any]:
    return {
        "uuid": f"visionbench-{kind.lower()}-{key}",
        "type": kind,
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }
