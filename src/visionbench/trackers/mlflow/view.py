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

CURVES, BEST = "Over batch size (step = batch size)", "Best of each run"
QUALITY = "Quality, and its price in speed: each row one task"
REST = "Model metrics"
"""The name that the UI files further metrics under; this section stands closed."""
A_ROW = 3
"""Charts beside each other."""

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
"""Of runs, one after the other: those of Okabe and Ito's palette that show on white, and four more. The UI chooses by
the run's id, which gave neighbours the same red."""

COLUMNS = {
    "params.`task`": 170,
    "tags.`visionbench.validity`": 145,
    "metrics.`best_throughput_images_per_s`": 215,
    "metrics.`lowest_latency_p50_ms`": 180,
    "metrics.`highest_memory_process_peak_mib`": 245,
    "metrics.`best_throughput_batch_size`": 190,
    "metrics.`recall_i2t_at_1_fraction`": 180,
    "metrics.`recall_t2i_at_1_fraction`": 180,
    "metrics.`segmentation_point_miou_fraction`": 235,
    "metrics.`captioning_cider_score`": 170,
    "metrics.`classification_top_1_fraction`": 200,
    "attributes.`Dataset`": 250,
    "params.`protocol`": 90,
    "params.`device_name`": 200,
    "params.`model`": 130,
    "params.`device`": 80,
    "params.`precision`": 90,
    "tags.`visionbench.weights`": 150,
    "tags.`visionbench.sweep`": 150,
}
"""Columns of the table, those to choose by first, and their widths: the UI's own cuts a heading after 11 characters."""


def colour_after(latest: str | None) -> str:
    """The colour of the run that follows one of this colour, or one of none."""
    return COLOURS[(COLOURS.index(latest) + 1) % len(COLOURS)] if latest in COLOURS else COLOURS[0]


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
            {"uuid": name, "name": name, "display": name != REST, "isReordered": True, "columns": A_ROW}
            for name in (CURVES, BEST, QUALITY, REST)
        ],
        "compareRunCharts": charts(),
    }


def charts() -> list[dict[str, Any]]:
    """Curves over batch size; then one value a run; and for each task a row of its quality, first against speed.

    The UI heads each with its metric's name, and a scatter with both.
    """
    speed = "best_throughput_images_per_s"
    return [
        _line("throughput_images_per_s"),
        _line("latency_p50_ms"),
        _line("latency_p95_ms"),
        _line("memory_process_peak_mib"),
        _line("memory_peak_allocated_mib"),
        _bar(speed, BEST),
        _bar("lowest_latency_p50_ms", BEST),
        _bar("memory_weights_mib", BEST),
        _scatter(speed, "recall_i2t_at_1_fraction"),
        _bar("recall_i2t_at_1_fraction", QUALITY),
        _bar("recall_t2i_at_1_fraction", QUALITY),
        _scatter(speed, "segmentation_point_miou_fraction"),
        _bar("segmentation_point_miou_fraction", QUALITY),
        _bar("segmentation_box_miou_fraction", QUALITY),
        _scatter(speed, "captioning_cider_score"),
        _bar("captioning_cider_score", QUALITY),
        _bar("captioning_bleu_4_fraction", QUALITY),
        _scatter(speed, "classification_top_1_fraction"),
        _bar("classification_top_1_fraction", QUALITY),
        _bar("classification_top_5_fraction", QUALITY),
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


def _bar(metric: str, section: str) -> dict[str, Any]:
    return _card("BAR", metric, section) | {"metricKey": metric}


def _scatter(speed: str, quality: str) -> dict[str, Any]:
    """Speed to the right and quality upwards."""
    axes = {name: {"key": key, "type": "METRIC"} for name, key in (("xaxis", speed), ("yaxis", quality))}
    return _card("SCATTER", f"{speed}-{quality}", QUALITY) | axes


def _card(kind: str, key: str, section: str) -> dict[str, Any]:
    return {
        "uuid": f"visionbench-{kind.lower()}-{key}",
        "type": kind,
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }
