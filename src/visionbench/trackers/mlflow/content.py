"""The content that a run sends to MLflow: metrics, params, tags, its data set and its files."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionbench import variation
from visionbench.core import AUTO, OK, CaseResult, RunPlan
from visionbench.records.record import DataIdentity, RunRecord
from visionbench.report import drawing, figures, load_figures
from visionbench.results import declared, summary
from visionbench.results.archive import Run

LONGEST_VALUE = 5000
"""The number of characters of a param or tag. A longer value is truncated."""
LARGEST_PREDICTIONS = 32 * 2**20
"""In bytes. A larger file of predictions stays in the run's folder and is not sent."""
TRUE_INDEX, PREDICTED_INDEX = "classification/true_index", "classification/predicted_index"
"""The series that the confusion matrix is drawn from."""
TAG_FACTS = (
    *(
        "sweep",
        "git_commit",
        "protocol",
        "model",
        "task",
        "device",
        "precision",
        "runtime",
        "decoder",
        "preprocess",
        "family",
        "weights",
        "data",
    ),
    *("device_name", "driver", "cuda"),
)
"""The facts of a run that are tags."""


@dataclass(frozen=True)
class Batch:
    """The metrics (name, value, step), params and tags of a run."""

    metrics: Sequence[tuple[str, float, int]]
    params: Mapping[str, Any]
    tags: Mapping[str, Any]


def batch(run: Run) -> Batch:
    """Return the metrics, params and tags of a run."""
    return Batch(list(metrics(run)), params(run.record), tags(run.record, run.results))


def run_name(plan: RunPlan) -> str:
    """Return the name of a run, beginning with what differs within the sweep.

    Beside the charts and in their legends, the UI shows only about 22 characters of a name. Of the parts that differ,
    the model comes last, because names of models are long and often begin with equal letters.
    """
    if not plan.varied:
        return plan.name
    base, varied = variation.base_parts(plan), varied_params(plan)
    labels = variation.labels(varied)
    differing = variation.differing_parts({labels[key]: value for key, value in varied.items()})
    short = [base[part] for part in ("device", "precision") if part in plan.varied]
    model = [base["model"]] if "model" in plan.varied else []
    equal = [text for part, text in base.items() if part not in plan.varied]
    return variation.joined([*short, *differing, *model, *equal])


def varied_params(plan: RunPlan) -> dict[str, str]:
    """Return the configuration keys that differ within the sweep, with their values in this run."""
    base = variation.base_parts(plan)
    return {key: value for key, value in plan.varied.items() if key not in base}


def metrics(run: Run) -> Iterator[tuple[str, float, int]]:
    """Yield name, value and step: the summary and the quality case at step 0, the search for the largest load at step
    0, then batch sizes at their size and loads at their load.

    The headlines of the quality case precede its other metrics. MLflow's page of a run lists metrics in this order.
    """
    yield from ((name, value, 0) for name, value in summary.summary(run.results).items())
    steps = load_steps(run.loads)
    for row in sorted(run.results, key=lambda row: (row.case.timed or row.case.offered is not None, row.case.kind)):
        if row.status != OK:
            continue
        step = row.case.batch_size if row.case.timed else steps.get(row.case.id, 0)
        headlines = [one.name for one in declared.headlines(run.declarations, row)] if row.case.is_quality else []
        for name in dict.fromkeys([*headlines, *row.metrics.values]):
            if (value := row.metrics.values[name]) is not None:
                yield name, value, step


def load_steps(rows: Sequence[CaseResult]) -> dict[str, int]:
    """Return the step of each load by case. A step is a whole number: requests per second, or per 1,000 seconds if two
    loads of the run would have the same step. For clients it is their number."""
    loads = {row.case.id: float(row.case.offered or 0) for row in rows}
    rounded = {case: round(load) for case, load in loads.items()}
    distinct = len(set(rounded.values())) == len(rounded) and all(rounded.values())
    return rounded if distinct else {case: round(load * 1000) for case, load in loads.items()}


def params(record: RunRecord) -> dict[str, Any]:
    """Return the params: what differs within the sweep, and the properties of the loaded or the configured model."""
    facts, plan, settings = record.facts(), record.plan, record.settings
    configured = {name: settings.model.values.get(name) for name in ("weights", "checkpoint", "revision", "attention")}
    first = {
        **{name: facts[name] for name in ("model", "task", "device", "device_name")},
        **{name: facts[name] for name in ("precision", "runtime", "decoder", "preprocess")},
        "batch_sizes": [case.batch_size for case in plan.cases if case.timed and case.id != AUTO],
        **{name: facts[name] for name in ("protocol", "threads")},
        "processes": record.processes,
        "dtype": settings.precision.dtype,
        "tf32": settings.precision.tf32,
        "autocast": settings.precision.autocast or None,
        "quantization": settings.precision.quantization,
        "family": facts["family"],
    }
    further = {
        **settings.model.options,
        **(record.model.values or configured),
        "seed": settings.model.values.get("seed"),
        "metrics": sorted({name for case in plan.cases for name in case.metrics}),
        "data": facts["data"],
        **{f"data_{name}": value for name, value in settings.data.options.items()},
        **{key: value for key, value in varied_params(plan).items() if value != variation.ABSENT},
    }
    merged = {**first, **{name: value for name, value in further.items() if name not in first}}
    return {name: value for name, value in merged.items() if value not in (None, "", [])}


def tags(record: RunRecord, results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return the tags: the facts that runs are filtered by, the versions of libraries, and the note."""
    facts = record.facts()
    visionbench_tags = {
        **{name: facts[name] for name in TAG_FACTS},
        "status": record.status,
        "sessions": len(record.all_sessions) if record.sessions else None,
        "validity": summary.verdict(results),
        "failures": "\n".join(summary.failures(results)),
        **record.host.values,
    }
    all_tags = {
        **{f"visionbench.{name}": value for name, value in visionbench_tags.items()},
        "mlflow.source.name": "visionbench",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": record.git_commit,
        "mlflow.loggedArtifacts": json.dumps([{"path": "summary.json", "type": "table"}]),
        "mlflow.note.content": summary.note(record, results),
    }
    return {name: value for name, value in all_tags.items() if value not in (None, "")}


def stage_files(run: Run, staging: Path) -> None:
    """Write the artifacts of a run to a folder, without its figures: its files, and the summary as CSV and for the UI.

    A file that cannot be read is copied as it is.
    """
    folder, results = run.folder, run.results
    assert folder is not None
    samples = [path.relative_to(folder.path) for path in (folder.path / "samples").glob("*.parquet")]
    (staging / "samples").mkdir()
    files = (Path("config.yaml"), Path("run.json"), Path("results.jsonl"), folder.log.relative_to(folder.path))
    for name in (*files, *samples):
        if (folder.path / name).is_file() and (folder.path / name).stat().st_size:
            shutil.copyfile(folder.path / name, staging / name)
    rows = summary.table(results)
    columns = list(rows[0]) if rows else ["batch"]
    with (staging / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    table = {"columns": columns, "data": [list(map(summary.text, row.values())) for row in rows]}
    (staging / "summary.json").write_text(json.dumps(table), "utf-8")
    if folder.predictions_file.is_file() and folder.predictions_file.stat().st_size <= LARGEST_PREDICTIONS:
        shutil.copyfile(folder.predictions_file, staging / folder.predictions_file.name)


def stage_figures(run: Run, staging: Path) -> None:
    """Draw the figures of a run to a folder.

    A figure whose file cannot be read is not drawn. The file is then part of the run's `damage`.
    """
    record, results = run.record, run.results
    if any(row.case.timed for row in results):
        drawing.write_png(figures.throughput_latency(record, results), staging / "throughput_latency.png")
    if run.loads:
        for number, drawn in enumerate(load_figures.figures([run], "en"), 1):
            drawing.write_png(drawn.figure, staging / f"load_{number}.png")
    for row in results:
        series = run.series(row.case.id) if row.status == OK and row.case.is_quality else {}
        if TRUE_INDEX in series and (predictions := run.predictions()):
            figure = figures.confusion_matrix(record, predictions.classes, series[TRUE_INDEX], series[PREDICTED_INDEX])
            drawing.write_png(figure, staging / "confusion_matrix.png")


def dataset(identity: DataIdentity) -> Any:
    """Return the data set of a run as MLflow's input."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps(dict(identity.values), sort_keys=True)
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    data = Dataset(name=identity.name, digest=digest, source_type="visionbench", source=source)
    return DatasetInput(data, [InputTag("mlflow.data.context", "benchmark")])


def text(value: Any) -> str:
    """Return a value as the text of a param or tag: a list with commas, and at most `LONGEST_VALUE` characters."""
    line = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return line if len(line) <= LONGEST_VALUE else f"{line[: LONGEST_VALUE - 2]} …"
