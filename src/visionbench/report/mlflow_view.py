"""The view that MLflow's UI opens with: which columns, in which order, and which charts.

The UI keeps a saved view as an experiment's tag, in a form that is private to its version. This one was tried with
3.17.2; a version that reads it differently shows its own default view instead, and nothing else is lost.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

KEY = "visionbench"
TAG = f"mlflow.sharedViewState.{KEY}"

CURVES, BEST, REST = "Over batch size (step = batch size)", "Best of each run", "Model metrics"
"""Sections. The last has the name that the UI files further metrics under, and stands closed."""

COLUMNS = {
    "params.`model`": 130,
    "params.`device`": 80,
    "params.`precision`": 90,
    "metrics.`best_throughput_images_per_s`": 215,
    "metrics.`best_throughput_batch_size`": 190,
    "metrics.`lowest_latency_p50_ms`": 180,
    "metrics.`highest_memory_process_peak_mib`": 245,
    "metrics.`recall_i2t_at_1_fraction`": 180,
    "metrics.`recall_t2i_at_1_fraction`": 180,
    "tags.`visionbench.validity`": 150,
    "params.`protocol`": 90,
    "params.`device_name`": 200,
    "tags.`visionbench.sweep`": 150,
}
"""Columns of the table and their widths: the UI's own width cuts a heading after eleven characters."""


def path(experiment_id: str) -> str:
    """Where the view is, below the address of the UI."""
    query = f"viewStateShareKey={KEY}&compareRunsMode=CHART&workflowType=machine_learning"
    return f"#/experiments/{experiment_id}/runs?{query}"


def tag_value(written_at_ms: int) -> str:
    """What the tag holds: names and times in the clear, the view itself packed."""
    packed = base64.b64encode(zlib.compress(json.dumps(state()).encode())).decode()
    return json.dumps(
        {
            "name": "visionbench: speed, memory, quality",
            "createdAt": written_at_ms,
            "updatedAt": written_at_ms,
            "state": f"deflate;{packed}",
        }
    )


def state() -> dict[str, Any]:
    """The view: search, table and charts."""
    return {
        "searchFilter": "",
        "orderByKey": "metrics.`best_throughput_images_per_s`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(COLUMNS),
        "columnOrder": ["attributes.`Run Name`", "attributes.`Created`", *COLUMNS],
        "columnWidths": {"attributes.`Run Name`": 250, **COLUMNS},
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": name, "name": name, "display": name != REST, "isReordered": True} for name in (CURVES, BEST, REST)
        ],
        "compareRunCharts": charts(),
    }


def charts() -> list[dict[str, Any]]:
    """Curves over batch size, then one value a run."""
    throughput = "best_throughput_images_per_s"
    return [
        _line("Throughput (images/s)", "throughput_images_per_s"),
        _line("Latency p50 (ms)", "latency_p50_ms"),
        _line("Latency p95 (ms)", "latency_p95_ms"),
        _line("Memory: process peak (MiB)", "memory_process_peak_mib"),
        _line("Memory: peak allocated (MiB)", "memory_peak_allocated_mib"),
        _line("Memory: weights (MiB)", "memory_weights_mib"),
        _bar("Best throughput (images/s)", throughput),
        _bar("Lowest latency p50 (ms)", "lowest_latency_p50_ms"),
        _bar("Recall@1 image→text", "recall_i2t_at_1_fraction"),
        _bar("Recall@1 text→image", "recall_t2i_at_1_fraction"),
        _scatter("Best throughput (x) and recall@1 image→text (y)", throughput, "recall_i2t_at_1_fraction"),
    ]


def _line(title: str, metric: str) -> dict[str, Any]:
    return _card("LINE", title, metric, CURVES) | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "xAxisScaleType": "log",
        "scaleType": "log",
        "lineSmoothness": 0,
        "displayPoints": True,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
    }


def _bar(title: str, metric: str) -> dict[str, Any]:
    return _card("BAR", title, metric, BEST) | {"metricKey": metric}


def _scatter(title: str, x: str, y: str) -> dict[str, Any]:
    axes = {name: {"key": key, "type": "METRIC"} for name, key in (("xaxis", x), ("yaxis", y))}
    return _card("SCATTER", title, f"{x}-{y}", BEST) | axes


def _card(kind: str, title: str, key: str, section: str) -> dict[str, Any]:
    return {
        "uuid": f"visionbench-{kind.lower()}-{key}",
        "type": kind,
        "displayName": title,
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }
