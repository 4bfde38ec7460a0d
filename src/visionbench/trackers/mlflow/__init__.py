"""MLflow: one flat run for each run's folder, its metrics at step = batch size, sent once and whole.

Everything comes from the folder's files, so what a store has missed can be sent later. The run's tag `visionbench.uid`
makes that idempotent: a run that is there already is left alone, one that was left half-sent is completed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, unquote

from filelock import FileLock

from visionbench.config import ExperimentConfig, TrackingConfig
from visionbench.core import OK, CaseResult, TrackingError
from visionbench.declarations import Declarations
from visionbench.records.folder import RunFolder
from visionbench.records.record import DataIdentity, RunRecord
from visionbench.registry import register
from visionbench.report import drawing, figures
from visionbench.results import declared, summary
from visionbench.results.archive import Run
from visionbench.trackers.mlflow import view

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
"""Defaults, where the user has set nothing: MLflow's own would wait four minutes for a server that is not there."""

RESULTS_ARE_SAFE = "results are safe in the run folder; send them later with visionbench sync"
LOCK_SECONDS = 60
METRICS_A_CALL, PAIRS_A_CALL = 800, 100
"""MLflow takes 1,000 entities in one call, of them 100 params and 100 tags."""
LONGEST_VALUE = 5000
COLOUR_TAG = "mlflow.runColor"
METRICS_TAG = "visionbench.metrics"
"""The declarations of metrics that an experiment's view shows beside the bundled ones, as JSON."""
REPORT = "report"
"""The folder of what is attached, among a run's artifacts."""
MOST_FETCHED = 1000
"""Runs that one filter may find."""
FETCHED = {"config.yaml", "run.json", "results.jsonl", "samples"}
"""Of a run's artifacts, what its folder is read from."""
LARGEST_PREDICTIONS = 32 * 2**20
"""Bytes; a larger file of predictions stays in the run's folder alone."""
TRUE_INDEX, PREDICTED_INDEX = "classification/true_index", "classification/predicted_index"
TAGGED = (
    *("sweep", "git_commit", "protocol", "model", "task", "device", "precision", "family", "weights", "data"),
    *("device_name", "driver", "cuda"),
)
"""The facts of a run that are tags."""
STATUSES = {"finished": "FINISHED", "failed": "FAILED"}
"""From run.json to MLflow's; an interrupted run, and one that never ended, is KILLED."""
DESCRIPTION = (
    "**visionbench**: a run is one model on one device in one precision, and **step = batch size**; `best_…` and "
    "`lowest_…` are over its batch sizes.\n\nCompare runs under equal conditions only: `protocol`, `device_name`, "
    "`visionbench.validity`. What each metric means is in visionbench's docs/measuring.md."
)


@register("trackers", "mlflow")
@dataclass(frozen=True)
class MlflowTracker:
    """Sends runs to the store at `config.uri`, by default the SQLite file `mlflow.db` in `output_dir`."""

    config: TrackingConfig
    output_dir: Path

    def open(self) -> None:
        """Import MLflow, make the store ready and give the experiment its view. Raises TrackingError."""
        with self._one_line_errors(RESULTS_ARE_SAFE):
            _ = self._experiment_id

    def log(self, folder: Path) -> str:
        """Send one run's folder, whole; where it is already, nothing is sent.

        Returns the experiment's address where a server has it, and for a local store the command that shows it. Raises
        TrackingError, and ConfigError where the folder is no run's.
        """
        files = RunFolder.open(folder)
        run = Run.read(files)
        self.open()  # before the lock, since it takes the same
        with self._one_line_errors(RESULTS_ARE_SAFE), self._lock():
            if (run_id := self._run_to_fill(run.record)) is not None:
                self._fill(run_id, run, files)
                self._show_metrics(run.record)
        return self.page() if self._on_a_server else self._command()

    def attach(self, folder: Path, files: Sequence[Path], again: bool = True) -> None:
        """Put these files among the artifacts of the run whose folder this is, below `report/`: over earlier ones, or
        without `again` only those that are not there. A run that somebody deleted stays so, and gets none.

        Raises TrackingError where the store has no such run, and ConfigError where the folder is no run's.
        """
        uid = RunFolder.open(folder).record().uid
        with self._one_line_errors(RESULTS_ARE_SAFE):
            found = self._with_uid(uid)
            if not found:
                raise TrackingError(
                    f"tracking.uri={_public(self.uri)}: it has no run of {folder}", "send it with visionbench sync"
                )
            active = [run.info.run_id for run in found if run.info.lifecycle_stage == "active"]
            if not active:
                return
            run_id = active[0]
            there = set() if again else {Path(one.path).name for one in self._client.list_artifacts(run_id, REPORT)}
            for file in files:
                if file.name not in there:
                    self._client.log_artifact(run_id, str(file), REPORT)

    def fetch(self, query: str, into: Path) -> int:
        """Bring the files of the experiment's runs that a filter of MLflow's finds, each to a folder of its own below
        `into`; returns how many. Raises TrackingError where store, experiment or a run's files are not there."""
        file = _sqlite_file(self.uri)
        with self._one_line_errors():
            if file is not None and not file.is_file():
                raise TrackingError(f"tracking.uri={_public(self.uri)}: there is no such file")
            experiment = self._client.get_experiment_by_name(self.config.experiment)
            if experiment is None:
                raise TrackingError(f"tracking.experiment={self.config.experiment}: not in {_public(self.uri)}")
            found = self._client.search_runs([experiment.experiment_id], query, max_results=MOST_FETCHED)
            if found.token:
                raise TrackingError(f"over {MOST_FETCHED} runs are found by {query}", "narrow the filter")
            for run in found:
                run_id, folder = run.info.run_id, into / run.info.run_id
                there = {artifact.path for artifact in self._client.list_artifacts(run_id)}
                if not {"run.json", "results.jsonl"} <= there:
                    raise TrackingError(f"run {run_id} in {_public(self.uri)} has no run.json and results.jsonl")
                folder.mkdir(parents=True)
                for name in there & FETCHED:
                    self._client.download_artifacts(run_id, name, str(folder))
        return len(found)

    @cached_property
    def uri(self) -> str:
        """The store's address, with an absolute path where it is a file."""
        file = _sqlite_file(self.config.uri) if self.config.uri else self.output_dir.absolute() / "mlflow.db"
        return _sqlite_uri(file) if file else str(self.config.uri)

    def page(self) -> str:
        """Where the experiment's charts are: an address for a server, and for a local store below the UI's.

        Opens the store; raises TrackingError.
        """
        with self._one_line_errors():
            path = view.path(self._experiment_id)
        return f"{_public(self.uri).rstrip('/')}/{path}" if self._on_a_server else path

    def _command(self) -> str:
        """The shortest command that opens this experiment."""
        usual = ExperimentConfig()
        words = ["visionbench", "ui"]
        if self.config.uri:
            words += ["--uri", _public(self.config.uri)]
        elif str(self.output_dir) != usual.output_dir:
            words += ["--output-dir", str(self.output_dir)]
        if self.config.experiment != usual.tracking.experiment:
            words += ["--experiment", self.config.experiment]
        return shlex.join(words)

    @property
    def _on_a_server(self) -> bool:
        return self.uri.startswith("http")

    def server(self, port: int) -> tuple[list[str], dict[str, str]]:
        """The command that serves the UI of a local store on this machine alone, and its environment."""
        command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command += ["--uvicorn-opts", "--log-level warning"]
        command += ["--backend-store-uri", self.uri, "--default-artifact-root", self._artifacts]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
        return command, {**ENVIRONMENT, **os.environ, **quiet}

    @property
    def _artifacts(self) -> str:
        folder = self.output_dir.absolute() / "mlartifacts"
        return folder.as_uri() if "%" in str(folder) else str(folder)  # MLflow decodes what it takes for an address

    # ------------------------------------------------------------------------------------------------------- the store
    @cached_property
    def _client(self) -> Any:
        """A client of a store that is ready: a fresh SQLite file is broken by two processes that set it up at once."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        if not re.match(r"[a-z][a-z0-9+.-]*:|databricks", self.uri):
            raise TrackingError(
                f"tracking.uri={self.uri}: not an address", f"a SQLite file is sqlite:///{self.uri}, a server http://…"
            )
        from mlflow import MlflowClient

        with self._lock():
            if file := _sqlite_file(self.uri):
                with closing(sqlite3.connect(file)) as database:
                    database.execute("PRAGMA journal_mode=WAL")
            client = MlflowClient(tracking_uri=self.uri)
            _remove_stray_folder(self.uri)
            return client

    @cached_property
    def _experiment_id(self) -> str:
        """The experiment, made where there is none, with a view of this version."""
        name = self.config.experiment
        client = self._client  # before the lock, since it takes the same
        with self._lock():
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                local = _sqlite_file(self.uri) is not None
                client.create_experiment(name, artifact_location=self._artifacts if local else None)
                experiment = client.get_experiment_by_name(name)
            if experiment.lifecycle_stage != "active":
                raise TrackingError(
                    f"tracking.experiment={name}: it was deleted in {_public(self.uri)}",
                    "give another name, or restore it with 'mlflow experiments restore'",
                )
            tags = {"mlflow.note.content": DESCRIPTION, "mlflow.experimentKind": "custom_model_development"}
            tags = {key: value for key, value in tags.items() if key not in experiment.tags}
            tags |= _view_tags(experiment.tags, _shown_metrics(experiment.tags))
            for key, value in tags.items():
                client.set_experiment_tag(experiment.experiment_id, key, value)
        return str(experiment.experiment_id)

    def _show_metrics(self, record: RunRecord) -> None:
        """Add charts and columns to the view for metrics of a run that are not part of visionbench."""
        own = view.added(declared.of_record(record), declared.bundled())
        tags = self._client.get_experiment(self._experiment_id).tags if own.listed else {}
        shown = _shown_metrics(tags)
        if view.added(own, shown).listed:
            together = declared.merged([shown, own])
            tags = {METRICS_TAG: json.dumps(together.written()), **_view_tags(tags, together)}
            for key, value in tags.items():
                self._client.set_experiment_tag(self._experiment_id, key, value)

    def _lock(self) -> FileLock:
        """Held by the one process that sets the store up, or sends a run: two that send the same would clash."""
        file = _sqlite_file(self.uri) or self.output_dir.absolute() / "mlflow"
        file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{file}.lock", timeout=LOCK_SECONDS)

    @contextmanager
    def _one_line_errors(self, remedy: str = "") -> Iterator[None]:
        """Convert every error of the store to a TrackingError of one line, with this remedy."""
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            raise TrackingError(f"tracking.uri={_public(self.uri)}: {_reason(error)}", remedy) from error

    # --------------------------------------------------------------------------------------------------------- one run
    def _run_to_fill(self, record: RunRecord) -> str | None:
        """The id of a new run, or of one that was left half-sent; None where the store has the whole run.

        A run that somebody deleted stays deleted. One that was sent before it ended is replaced.
        """
        found = self._with_uid(record.uid)
        for run in found:
            if run.info.status != "RUNNING" and run.data.tags.get("visionbench.status") == record.status:
                return None
        for run in found:
            if run.info.lifecycle_stage != "active":
                continue
            if run.info.status == "RUNNING":
                return str(run.info.run_id)
            self._client.delete_run(run.info.run_id)
        created = self._client.create_run(
            self._experiment_id,
            start_time=_ms(record.started_at),
            tags={"visionbench.uid": record.uid, COLOUR_TAG: self._next_colour()},
            run_name=record.plan.name,
        )
        return str(created.info.run_id)

    def _next_colour(self) -> str:
        """Another than the latest run's, so that the curves of a sweep are told apart."""
        latest = self._client.search_runs([self._experiment_id], max_results=1, order_by=["attributes.start_time DESC"])
        return view.colour_after(latest[0].data.tags.get(COLOUR_TAG) if latest else None)

    def _with_uid(self, uid: str) -> list[Any]:
        """The store's runs of one folder, latest first; those that somebody deleted are among them."""
        experiment_id = self._experiment_id
        from mlflow.entities import ViewType  # after the store is opened, which sets MLflow's environment

        same = f"tags.`visionbench.uid` = '{uid}'"
        return list(self._client.search_runs([experiment_id], same, run_view_type=ViewType.ALL))

    def _fill(self, run_id: str, run: Run, files: RunFolder) -> None:
        """Send everything and end the run; sending it twice leaves it as it is."""
        from mlflow.entities import Metric, Param, RunTag

        record, results = run.record, run.results
        began = _ms(record.started_at)
        metric_list = [Metric(name, value, began, step) for name, value, step in metrics(results)]
        param_list = [Param(name, _text(value)) for name, value in params(record).items()]
        tag_list = [RunTag(name, _text(value)) for name, value in tags(record, results).items()]
        for at in range(1 + max(len(metric_list) // METRICS_A_CALL, len(param_list + tag_list) // PAIRS_A_CALL)):
            some = metric_list[at * METRICS_A_CALL : (at + 1) * METRICS_A_CALL]
            pairs = slice(at * PAIRS_A_CALL, (at + 1) * PAIRS_A_CALL)
            self._client.log_batch(run_id, some, param_list[pairs], tag_list[pairs])
        if record.data.values:
            self._client.log_inputs(run_id, [_dataset(record.data)])
        with TemporaryDirectory(prefix="visionbench-") as staging:
            stage_artifacts(files, record, results, Path(staging))
            self._client.log_artifacts(run_id, staging)
        ended = _ms(record.ended_at or record.started_at)
        self._client.set_terminated(run_id, STATUSES.get(record.status, "KILLED"), end_time=ended)


# ------------------------------------------------------------------------------------------------------- what is sent
def metrics(results: Sequence[CaseResult]) -> Iterator[tuple[str, float, int]]:
    """Name, value and step: the summary and quality at 0, then timed cases at their batch size.

    The page of a run lists them in this order.
    """
    yield from ((name, value, 0) for name, value in summary.summary(results).items())
    for row in sorted(results, key=lambda row: row.case.timed):
        step = row.case.batch_size if row.case.timed else 0
        for name, value in row.metrics.values.items() if row.status == OK else ():
            if value is not None:
                yield name, value, step


def params(record: RunRecord) -> dict[str, Any]:
    """Return what was run, as it was loaded or else as it was configured, without values that are unknown."""
    facts, plan, settings = record.facts(), record.plan, record.settings
    configured = {name: settings.model.values.get(name) for name in ("weights", "checkpoint", "revision", "attention")}
    first = {
        **{name: facts[name] for name in ("model", "task", "device", "device_name", "precision")},
        "batch_sizes": [case.batch_size for case in plan.cases if case.timed],
        **{name: facts[name] for name in ("protocol", "threads")},
        "processes": record.processes,
        "dtype": settings.precision.dtype,
        "tf32": settings.precision.tf32,
        "family": facts["family"],
    }
    rest = {
        **settings.model.options,
        **(record.model.values or configured),
        "seed": settings.model.values.get("seed"),
        "metrics": sorted({name for case in plan.cases for name in case.metrics}),
        "data": facts["data"],
        **{f"data_{name}": value for name, value in settings.data.options.items()},
    }
    known = {**first, **{name: value for name, value in rest.items() if name not in first}}
    return {name: value for name, value in known.items() if value not in (None, "", [])}


def tags(record: RunRecord, results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return what runs are searched and filtered by, the versions of everything, and the note."""
    facts = record.facts()
    own = {
        **{name: facts[name] for name in TAGGED},
        "status": record.status,
        "validity": summary.verdict(results),
        "failures": "\n".join(summary.failures(results)),
        **record.host.values,
    }
    every = {
        **{f"visionbench.{name}": value for name, value in own.items()},
        "mlflow.source.name": "visionbench",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": record.git_commit,
        "mlflow.loggedArtifacts": json.dumps([{"path": "summary.json", "type": "table"}]),
        "mlflow.note.content": summary.note(record, results),
    }
    return {name: value for name, value in every.items() if value not in (None, "")}


def stage_artifacts(run: RunFolder, record: RunRecord, results: Sequence[CaseResult], staging: Path) -> None:
    """Lay out in `staging` what goes along: the run's files, the summary as CSV and for the UI, and a figure."""
    samples = [path.relative_to(run.path) for path in (run.path / "samples").glob("*.parquet")]
    (staging / "samples").mkdir()
    files = (Path("config.yaml"), Path("run.json"), Path("results.jsonl"), run.log.relative_to(run.path))
    for name in (*files, *samples):
        if (run.path / name).is_file() and (run.path / name).stat().st_size:
            shutil.copyfile(run.path / name, staging / name)
    rows = summary.table(results)
    columns = list(rows[0]) if rows else ["batch"]
    with (staging / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    side_by_side = {"columns": columns, "data": [list(map(summary.text, row.values())) for row in rows]}
    (staging / "summary.json").write_text(json.dumps(side_by_side), "utf-8")
    if any(row.case.timed for row in results):
        drawing.write_png(figures.throughput_latency(record, results), staging / "throughput_latency.png")
    if run.predictions_file.is_file() and run.predictions_file.stat().st_size <= LARGEST_PREDICTIONS:
        shutil.copyfile(run.predictions_file, staging / run.predictions_file.name)
    for row in results:
        series = run.samples(row.case.id).series if row.status == OK and not row.case.timed else {}
        if TRUE_INDEX in series and (predictions := run.predictions()):
            shown = figures.confusion_matrix(record, predictions.classes, series[TRUE_INDEX], series[PREDICTED_INDEX])
            drawing.write_png(shown, staging / "confusion_matrix.png")


def _shown_metrics(tags: Mapping[str, str]) -> Declarations:
    """The declarations of metrics that an experiment's view shows beside the bundled ones."""
    try:
        return Declarations.read(json.loads(tags.get(METRICS_TAG, "{}")))
    except ValueError:
        return Declarations()


def _view_tags(tags: Mapping[str, str], own: Declarations) -> dict[str, str]:
    """The tags that give an experiment its view, if it does not have this view yet."""
    state = view.state(declared.merged([declared.bundled(), own]))
    seed = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:12]
    if tags.get("visionbench.view") == seed:
        return {}
    return {view.TAG: view.tag_value(state, _now_ms()), "visionbench.view": seed}


def _dataset(identity: DataIdentity) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps(dict(identity.values), sort_keys=True)
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    dataset = Dataset(name=identity.name, digest=digest, source_type="visionbench", source=source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "benchmark")])


# ------------------------------------------------------------------------------------------------------------ details
def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store, absolute; None for any other store."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(unquote(found[1])).absolute() if found else None


def _sqlite_uri(file: Path) -> str:
    """The address of a SQLite file; what has a meaning in an address is encoded, and decoded again by MLflow."""
    return "sqlite:///" + re.sub("[%?]", lambda mark: quote(mark[0]), str(file))


def _remove_stray_folder(uri: str) -> None:
    """Remove the empty folders that MLflow makes of an encoded SQLite address, beside the one that it means."""
    stray = Path(uri.removeprefix("sqlite:///")).parent
    file = _sqlite_file(uri)
    if file is None or stray == file.parent:
        return
    with suppress(OSError):  # not empty: a folder of the user's
        for folder in (stray, *stray.parents):
            folder.rmdir()


def _public(uri: str) -> str:
    """The address without a user's name and password."""
    return re.sub(r"//[^/@\s]*@", "//", uri)


def _reason(error: BaseException) -> str:
    """Of the many lines that come back from a network or a database, the one that says why."""
    said = _public(" ".join(str(error).split())) or type(error).__name__
    if found := re.search(r"\[Errno -?\d+\] ([^'\")\]]+)", said):
        return found[1].strip(": ")
    if "timed out" in said:
        return "no answer in time"
    return said if len(said) <= 300 else f"{said[:300]} …"


def _text(value: Any) -> str:
    """A value as params and tags hold it: lists with commas, cut to what a store takes."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 2]} …"


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def _now_ms() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)
