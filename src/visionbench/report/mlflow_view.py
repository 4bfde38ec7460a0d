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
    "metrics.`segmentation_point_miou_fraction`": 230,
    "metrics.`captioning_cider_score`": 170,
    "metrics.`classification_top_1_fraction`": 200,
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
            "name": "visionbench",
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
    """Curves over batch size, then one value a run. The UI heads each with its metric's name."""
    throughput, recall = "best_throughput_images_per_s", "recall_i2t_at_1_fraction"
    return [
        _line("throughput_images_per_s"),
        _line("latency_p50_ms"),
        _line("latency_p95_ms"),
        _line("memory_process_peak_mib"),
        _line("memory_peak_allocated_mib"),
        _bar(throughput),
        _bar("lowest_latency_p50_ms"),
        _scatter(throughput, recall),
        _bar(recall),
        _bar("recall_t2i_at_1_fraction"),
        _bar("segmentation_point_miou_fraction"),
        _bar("segmentation_box_miou_fraction"),
        _bar("captioning_cider_score"),
        _bar("captioning_exact_match_fraction"),
        _bar("classification_top_1_fraction"),
        _bar("evaluation_images_per_s"),
        _bar("memory_weights_mib"),
    ]


def _line(metric: str) -> dict[str, Any]:
    """A curve with both axes logarithmic and a mark at each batch size."""
    return _card("LINE", metric, CURVES) | {
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


def _bar(metric: str) -> dict[str, Any]:
    return _card("BAR", metric, BEST) | {"metricKey": metric}


def _scatter(x: str, y: str) -> dict[str, Any]:
    axes = {name: {"key": key, "type": "METRIC"} for name, key in (("xaxis", x), ("yaxis", y))}
    return _card("SCATTER", f"{x}-{y}", BEST) | axes


def _card(kind: str, key: str, section: str) -> dict[str, Any]:
    return {
        "uuid": f"visionbench-{kind.lower()}-{key}",
        "type": kind,
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }
