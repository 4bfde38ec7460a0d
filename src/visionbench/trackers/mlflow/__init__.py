"""MLflow: one flat run for each run's folder, with metrics at step = batch size. A run is sent completely, and once.

Everything is read from the files of the folder, so that runs that a store does not have yet can be sent later. The tag
`visionbench.uid` of a run prevents duplicates: a complete run is left as it is, and an incomplete one is completed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

from filelock import FileLock

from visionbench.config import ExperimentConfig, TrackingConfig
from visionbench.core import ConfigError, TrackingError, VisionbenchError
from visionbench.credentials import public
from visionbench.declarations import Declarations
from visionbench.plan import check_address
from visionbench.records.folder import RunFolder
from visionbench.records.record import FINISHED, UNSUCCESSFUL, RunRecord
from visionbench.registry import register
from visionbench.results import archive, declared
from visionbench.results.archive import Run
from visionbench.trackers.mlflow import content, database, sent, view
from visionbench.trackers.mlflow.address import is_database, reason, remove_stray_folder, sqlite_file, sqlite_uri
from visionbench.trackers.mlflow.sent import DRAWN, FIGURES_TAG, NOT_DRAWN

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
"""Values of variables that the user has not set. With MLflow's values, a missing server would take four minutes."""

RESULTS_ARE_SAFE = "results are safe in the run folder; send them later with visionbench sync"
LOCK_SECONDS = 60
LOCAL_FACTOR = 10
"""A local store may take longer than a server by this factor, because it computes in this process, such as when its
tables are created on a busy machine."""
OUT_OF_DATE = "out-of-date database schema"
"""The words of MLflow's error for a database of another version."""
METRICS_PER_CALL, PAIRS_PER_CALL = 800, 100
"""MLflow accepts 1,000 entities in one call, with at most 100 params and 100 tags."""
COLOUR_TAG = "mlflow.runColor"
METRICS_TAG = "visionbench.metrics"
"""The declarations of metrics that an experiment's view shows beside the bundled ones, as JSON."""
VARIED_TAG = "visionbench.varied"
"""The params that differ within a sweep and that an experiment's view shows, the latest first, as JSON."""
SEED_TAG = "visionbench.view"
"""The digest of the view that visionbench wrote last."""
REPORT = "report"
"""The folder of attached files among a run's artifacts."""
MOST_FETCHED = 1000
"""The number of runs that a query may match."""
RUNS_PER_PAGE = 100
"""The number of runs in one answer of a server, which has every metric of each run and must arrive in seconds."""
FETCHED = {"config.yaml", "run.json", "results.jsonl", "samples"}
"""The artifacts that a run is read from."""
CONFLICT = re.compile("unique|duplicate|already.exists|deadlock|could not serialize|database is locked", re.IGNORECASE)
"""Words of an error of a database that two processes wrote to at the same time. Each database has its own words."""
MOST_ATTEMPTS = 4
"""How often a call is made until it conflicts with no other process."""
STATUSES = {FINISHED: "FINISHED", UNSUCCESSFUL: "FAILED"}
"""MLflow's statuses. A run that was interrupted or did not end is KILLED."""
DESCRIPTION = (
    "A run is one model on one device, in one precision and runtime. **Step = batch size or load.**\n\n"
    "`best_…` and `lowest_…` are over the batch sizes of a run. Compare runs under equal conditions only: `protocol`, "
    "`device_name`, `visionbench.validity`. `visionbench docs measuring` explains each metric."
)


@register("trackers", "mlflow")
@dataclass(frozen=True)
class MlflowTracker:
    """A tracker that sends runs to the store at `config.uri`, by default the file `mlflow.db` in `output_dir`."""

    config: TrackingConfig
    output_dir: Path

    def load(self) -> None:
        """Import MLflow, with settings that end a request to a server that does not answer. Raises TrackingError."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        with self._one_line_errors(RESULTS_ARE_SAFE):
            import mlflow  # noqa: F401
        logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])  # if it was imported before

    def open(self) -> None:
        """Import MLflow, prepare the store and set the view of the experiment. Raises TrackingError."""
        with self._one_line_errors(RESULTS_ARE_SAFE):
            _ = self._experiment_id

    def log(self, folder: Path, figures: bool = True) -> str:
        """Send the folder of a run, or the part of it that the store does not have.

        Figures take longer to draw than everything else takes to send. Without `figures`, a later call sends them.
        Return the address of the experiment on a server, or the command that shows a local store. Raises TrackingError,
        and ConfigError if the folder is not a run's or its files cannot be read.
        """
        self.send(Run.read(RunFolder.open(folder)), figures)
        return self.page() if self._on_a_server else self._command()

    def send(self, run: Run, figures: bool = True) -> None:
        """Send a run that was read, or the part of it that the store does not have. Raises as `log` does."""
        self.open()  # before the lock, because it acquires the same lock
        with self._one_line_errors(RESULTS_ARE_SAFE):
            same = self._with_uid(run.record.uid)
            is_sent = sent.is_complete(same, run.record, figures=False)
            if sent.is_complete(same, run.record, figures):
                return
            with TemporaryDirectory(prefix="visionbench-") as files, TemporaryDirectory(prefix="visionbench-") as drawn:
                with _local_errors(run):
                    batch = content.batch(run)
                    if not is_sent:
                        content.stage_files(run, Path(files))
                    if figures:
                        content.stage_figures(run, Path(drawn))
                with self._lock():
                    same = self._with_uid(run.record.uid)  # another process may have sent it
                    if not is_sent and not sent.is_complete(same, run.record, figures=False):
                        run_id = self._run_to_fill(same, run.record)
                        _without_conflict(partial(self._fill, run_id, run.record, batch, files))
                        _without_conflict(partial(self._extend_view, run))
                        same = [self._client.get_run(run_id)]
                    if figures and not sent.is_complete(same, run.record, figures):
                        self._add_figures(same, run.record, drawn)

    def attach(self, folder: Path, files: Sequence[Path], again: bool = True) -> None:
        """Add files to the artifacts of a run, below `report/`. Replace earlier files, or keep them if not `again`.

        Nothing is added to a deleted run. Raises TrackingError if the store does not have the run, and ConfigError if
        the folder is not a run's.
        """
        uid = RunFolder.open(folder).record().uid
        with self._one_line_errors(RESULTS_ARE_SAFE):
            runs = self._with_uid(uid)
            if not runs:
                raise TrackingError(
                    f"tracking.uri={public(self.uri)}: it has no run of {folder}",
                    "send it with visionbench sync",
                )
            active = [run.info.run_id for run in runs if run.info.lifecycle_stage == "active"]
            if not active:
                return
            run_id = active[0]
            existing = set() if again else {Path(one.path).name for one in self._client.list_artifacts(run_id, REPORT)}
            for file in files:
                if file.name not in existing:
                    self._client.log_artifact(run_id, str(file), REPORT)

    def matches(self, query: str) -> list[str]:
        """Return the ids of the experiment's runs that match an MLflow query.

        Raises TrackingError if the store or the experiment is missing, or if too many runs match.
        """
        file = sqlite_file(self.uri)
        with self._one_line_errors():
            if file is not None and not file.is_file():
                raise TrackingError(f"tracking.uri={public(self.uri)}: there is no such file")
            experiment = self._client.get_experiment_by_name(self.config.experiment)
            if experiment is None:
                raise TrackingError(f"tracking.experiment={self.config.experiment}: not in {public(self.uri)}")
            runs: list[str] = []
            token: str | None = None
            while True:
                page = self._client.search_runs(
                    [experiment.experiment_id], query, max_results=RUNS_PER_PAGE, page_token=token
                )
                runs += [run.info.run_id for run in page]
                if len(runs) > MOST_FETCHED:
                    raise TrackingError(f"over {MOST_FETCHED} runs match {query}", "narrow the query")
                token = page.token
                if not token:
                    return runs

    def download(self, run_id: str, into: Path) -> None:
        """Download the files of a run to a folder below `into`. Raises TrackingError if it has no results."""
        with self._one_line_errors():
            artifacts = {artifact.path for artifact in self._client.list_artifacts(run_id)}
            if not {"run.json", "results.jsonl"} <= artifacts:
                raise TrackingError(f"run {run_id} in {public(self.uri)} has no run.json and results.jsonl")
            (into / run_id).mkdir(parents=True)
            for name in artifacts & FETCHED:
                self._client.download_artifacts(run_id, name, str(into / run_id))

    @cached_property
    def uri(self) -> str:
        """The address of the store. The path of a file is absolute."""
        file = sqlite_file(self.config.uri) if self.config.uri else self.output_dir.absolute() / "mlflow.db"
        return sqlite_uri(file) if file else str(self.config.uri)

    def page(self) -> str:
        """Return the place of the experiment's charts: an address on a server, or a path below the UI of a local store.

        Opens the store. Raises TrackingError.
        """
        with self._one_line_errors():
            path = view.path(self._experiment_id)
        return f"{public(self.uri).rstrip('/')}/{path}" if self._on_a_server else path

    def _command(self) -> str:
        """Return the shortest command that opens this experiment."""
        defaults = ExperimentConfig()
        words = ["visionbench", "ui"]
        if self.config.uri:
            words += ["--uri", public(self.config.uri)]
        elif str(self.output_dir) != defaults.output_dir:
            words += ["--output-dir", str(self.output_dir)]
        if self.config.experiment != defaults.tracking.experiment:
            words += ["--experiment", self.config.experiment]
        return shlex.join(words)

    @property
    def is_remote(self) -> bool:
        """Whether the store is not a file, so that opening it can wait for a network."""
        return sqlite_file(self.uri) is None

    @property
    def timeout_seconds(self) -> float:
        """The longest time of one exchange: `tracking.timeout_seconds`, or ten times as long for a local store."""
        return self.config.timeout_seconds * (1 if self.is_remote else LOCAL_FACTOR)

    @property
    def _on_a_server(self) -> bool:
        return self.uri.startswith("http")

    def server(self, port: int) -> tuple[list[str], dict[str, str]]:
        """Return the command that serves the UI of a local store on this machine only, and its environment."""
        command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command += ["--uvicorn-opts", "--log-level warning"]
        command += ["--backend-store-uri", self.uri, "--default-artifact-root", self._artifacts]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
        return command, {**ENVIRONMENT, **os.environ, **quiet}

    @property
    def _artifacts(self) -> str:
        folder = self.output_dir.absolute() / "mlartifacts"
        return folder.as_uri() if "%" in str(folder) else str(folder)  # MLflow decodes a path with % like an address

    # ------------------------------------------------------------------------------------------------------- the store
    @cached_property
    def _client(self) -> Any:
        """A client of the prepared store. Two processes must not prepare a new SQLite file at the same time."""
        try:
            check_address(self.uri, "tracking.uri=")
        except ConfigError as error:
            raise TrackingError(error.problem, error.remedy) from None
        self.load()
        from mlflow import MlflowClient

        with self._lock():
            file = sqlite_file(self.uri)
            if file is None:
                return MlflowClient(tracking_uri=self.uri)
            self._prepare(file)
            try:
                client = MlflowClient(tracking_uri=self.uri)
            except Exception as error:
                if OUT_OF_DATE not in str(error):
                    raise
                if database.examine(file, _tables()).has_runs:
                    raise TrackingError(
                        f"tracking.uri={public(self.uri)}: another version of MLflow wrote it",
                        f"upgrade it with {shlex.join(['mlflow', 'db', 'upgrade', self.uri])}",
                    ) from error
                _close_store(self.uri)
                self._prepare(file, "its set-up did not end (not the latest version)")
                client = MlflowClient(tracking_uri=self.uri)
            remove_stray_folder(self.uri)
            return client

    def _prepare(self, file: Path, renew: str = "") -> None:
        """Make sure that the SQLite file is a complete store, and print one line if a broken file was set aside."""

        def build(uri: str) -> None:
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            try:
                SqlAlchemyStore(uri, self._artifacts)
            finally:
                _close_store(uri)
                _close_store(self.uri)
                remove_stray_folder(uri)

        if note := database.prepare(file, _tables(), build, is_own=self.config.uri is None, renew=renew):
            archive.warn(note)

    @cached_property
    def _experiment_id(self) -> str:
        """The id of the experiment, which is created if it does not exist, with the view of this version."""
        name = self.config.experiment
        client = self._client  # before the lock, because it acquires the same lock
        with self._lock():
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                local = sqlite_file(self.uri) is not None
                try:
                    client.create_experiment(name, artifact_location=self._artifacts if local else None)
                except Exception as error:
                    if not CONFLICT.search(str(error)):
                        raise
                experiment = client.get_experiment_by_name(name)
            if experiment.lifecycle_stage != "active":
                raise TrackingError(
                    f"tracking.experiment={name}: it was deleted in {public(self.uri)}",
                    "give another name, or restore it with 'mlflow experiments restore'",
                )
            tags = {"mlflow.note.content": DESCRIPTION, "mlflow.experimentKind": "custom_model_development"}
            tags = {key: value for key, value in tags.items() if key not in experiment.tags}
            tags |= _view_tags(experiment.tags, _shown_metrics(experiment.tags), _shown_params(experiment.tags))
            for key, value in tags.items():
                _without_conflict(partial(client.set_experiment_tag, experiment.experiment_id, key, value))
        return str(experiment.experiment_id)

    def _extend_view(self, run: Run) -> None:
        """Add charts of a run's metrics that are not part of visionbench, and columns of what differs in its sweep."""
        run_metrics = view.added(run.declarations, declared.bundled())
        run_params = list(content.varied_params(run.record.plan))
        if not run_metrics.listed and not run_params:
            return
        tags = self._client.get_experiment(self._experiment_id).tags
        shown_metrics, shown_params = _shown_metrics(tags), _shown_params(tags)
        changes = {}
        if view.added(run_metrics, shown_metrics).listed:
            shown_metrics = declared.merged([shown_metrics, run_metrics])
            changes[METRICS_TAG] = json.dumps(shown_metrics.to_json())
        latest_first = list(dict.fromkeys([*run_params, *shown_params]))
        if latest_first != shown_params:
            shown_params = latest_first
            changes[VARIED_TAG] = json.dumps(shown_params)
        if changes:
            for key, value in {**changes, **_view_tags(tags, shown_metrics, shown_params)}.items():
                self._client.set_experiment_tag(self._experiment_id, key, value)

    def _lock(self) -> FileLock:
        """Return the lock that a process holds while it prepares the store or sends a run. It prevents duplicates."""
        file = sqlite_file(self.uri) or self.output_dir.absolute() / "mlflow"
        file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{file}.lock", timeout=min(LOCK_SECONDS, self.timeout_seconds))

    @contextmanager
    def _one_line_errors(self, remedy: str = "") -> Iterator[None]:
        """Convert every error of the store to a TrackingError of one line, with this remedy."""
        try:
            yield
        except VisionbenchError:
            raise
        except Exception as error:
            raise TrackingError(f"tracking.uri={public(self.uri)}: {reason(error)}", remedy) from error

    # --------------------------------------------------------------------------------------------------------- one run
    def _run_to_fill(self, same: Sequence[Any], record: RunRecord) -> str:
        """Return the id of a new run, or of an incomplete one in `same`. A run sent before it ended is replaced."""
        for run in same:
            if run.info.lifecycle_stage != "active":
                continue
            if run.info.status == "RUNNING":
                return str(run.info.run_id)
            self._client.delete_run(run.info.run_id)
        created = self._client.create_run(
            self._experiment_id,
            start_time=_ms(record.started_at),
            tags={sent.UID_TAG: record.uid, COLOUR_TAG: self._next_colour()},
            run_name=content.run_name(record.plan),
        )
        return str(created.info.run_id)

    def _next_colour(self) -> str:
        """Return the colour after that of the latest run, so that the curves of a sweep can be distinguished."""
        latest = self._client.search_runs([self._experiment_id], max_results=1, order_by=["attributes.start_time DESC"])
        return view.colour_after(latest[0].data.tags.get(COLOUR_TAG) if latest else None)

    def complete_runs(self, token: str | None) -> tuple[set[sent.Key], str | None]:
        """Return the keys of one page of complete runs of the store, and the token of the next page.

        A database has one page. `sent.key_of` returns the key of a record. Raises TrackingError.
        """
        with self._one_line_errors():
            experiment_id = self._experiment_id
            if is_database(self.uri):
                return sent.complete_keys_of_database(self.uri, experiment_id), None
            from mlflow.entities import ViewType

            page = self._client.search_runs(
                [experiment_id], run_view_type=ViewType.ALL, max_results=RUNS_PER_PAGE, page_token=token
            )
            return sent.complete_keys(page), page.token

    def _with_uid(self, uid: str) -> list[Any]:
        """Return the store's runs of one folder, the latest first, including deleted ones."""
        experiment_id = self._experiment_id
        from mlflow.entities import ViewType  # only after the store is opened, which sets MLflow's environment

        same = f"tags.`{sent.UID_TAG}` = '{uid}'"
        return list(self._client.search_runs([experiment_id], same, run_view_type=ViewType.ALL))

    def _fill(self, run_id: str, record: RunRecord, batch: content.Batch, files: str) -> None:
        """Send all content except figures, and end the run. A second call sends the same content again."""
        from mlflow.entities import Metric, Param, RunTag

        began = _ms(record.started_at)
        metric_list = [Metric(name, value, began, step) for name, value, step in batch.metrics]
        param_list = [Param(name, content.text(value)) for name, value in batch.params.items()]
        tag_list = [RunTag(name, content.text(value)) for name, value in batch.tags.items()]
        tag_list.append(RunTag(FIGURES_TAG, NOT_DRAWN))
        for index in range(1 + max(len(metric_list) // METRICS_PER_CALL, len(param_list + tag_list) // PAIRS_PER_CALL)):
            metrics = metric_list[index * METRICS_PER_CALL : (index + 1) * METRICS_PER_CALL]
            pairs = slice(index * PAIRS_PER_CALL, (index + 1) * PAIRS_PER_CALL)
            self._client.log_batch(run_id, metrics, param_list[pairs], tag_list[pairs])
        if record.data.values:
            self._client.log_inputs(run_id, [content.dataset(record.data)])
        self._client.log_artifacts(run_id, files)
        ended = max(began, _ms(record.ended_at or record.started_at))
        self._client.set_terminated(run_id, STATUSES.get(record.status, "KILLED"), end_time=ended)

    def _add_figures(self, same: Sequence[Any], record: RunRecord, drawn: str) -> None:
        """Send the figures of a record's run in the store that does not have them."""
        for run in same:
            if sent.is_sent(run, record) and sent.lacks_figures(run):
                self._client.log_artifacts(run.info.run_id, drawn)
                _without_conflict(partial(self._client.set_tag, run.info.run_id, FIGURES_TAG, DRAWN))


def _without_conflict(call: Callable[[], None]) -> None:
    """Make a call that may be repeated, until it does not conflict with another process that writes to the store.

    MLflow adds a data set or a tag that is missing in two steps: it looks for the data set or tag, and then inserts it.
    If two processes do so at the same time, the database refuses the second insertion.
    """
    for attempt in range(MOST_ATTEMPTS):
        try:
            return call()
        except Exception as error:
            if attempt == MOST_ATTEMPTS - 1 or not CONFLICT.search(str(error)):
                raise
            sleep(random.uniform(0, 0.1 * 2**attempt))


@contextmanager
def _local_errors(run: Run) -> Iterator[None]:
    """Convert an error of a run's files to a ConfigError that names the folder, because the store is not the reason."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        folder = run.folder.path if run.folder is not None else run.name
        raise ConfigError(f"{folder}: {reason(error)}") from error


def _tables() -> set[str]:
    """Return the names of the tables of a complete store of this version of MLflow."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 (declares the tables)
    from mlflow.store.db.base_sql_model import Base

    return set(Base.metadata.tables)


def _close_store(uri: str) -> None:
    """Close the connections that MLflow keeps to a store, so that the file can be renamed."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    engine = getattr(SqlAlchemyStore, "_engine_map", {}).pop(uri, None)
    if engine is not None:
        engine.dispose()


def _shown_metrics(tags: Mapping[str, str]) -> Declarations:
    """Return the declarations of metrics that an experiment's view shows beside the bundled ones."""
    try:
        return Declarations.from_json(json.loads(tags.get(METRICS_TAG, "{}")))
    except ValueError:
        return Declarations()


def _shown_params(tags: Mapping[str, str]) -> list[str]:
    """Return the params that differ within a sweep and that an experiment's view shows."""
    try:
        shown = json.loads(tags.get(VARIED_TAG, "[]"))
    except ValueError:
        return []
    return [name for name in shown if isinstance(name, str)] if isinstance(shown, list) else []


def _view_tags(tags: Mapping[str, str], run_metrics: Declarations, run_params: Sequence[str]) -> dict[str, str]:
    """Return the tags that set an experiment's view, or nothing if it has this view or a person changed its view."""
    state = view.state(declared.merged([declared.bundled(), run_metrics]), run_params)
    seed = _digest(state)
    if tags.get(SEED_TAG) == seed or _is_changed(tags):
        return {}
    return {view.TAG: view.tag_value(state, _now_ms()), SEED_TAG: seed}


def _is_changed(tags: Mapping[str, str]) -> bool:
    """Return whether an experiment's view is another one than visionbench wrote last."""
    if view.TAG not in tags or SEED_TAG not in tags:
        return view.TAG in tags
    state = view.written(tags[view.TAG])
    return state is None or _digest(state) != tags[SEED_TAG]


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:12]


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def _now_ms() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)
