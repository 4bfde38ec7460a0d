"""Which runs a store has completely. Runs are compared by a key: the uid, the status and the number of sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from visionbench.records.record import RunRecord

Key = tuple[str, ...]
UID_TAG, STATUS_TAG, SESSIONS_TAG = "visionbench.uid", "visionbench.status", "visionbench.sessions"
FIGURES_TAG, NOT_DRAWN, DRAWN = "visionbench.figures", "not drawn", "drawn"
"""The tag of a run that was sent without its figures, and its values before and after they are sent."""
READ_TAGS = (UID_TAG, STATUS_TAG, SESSIONS_TAG, FIGURES_TAG)


def key_of(record: RunRecord) -> Key:
    """Return what a complete run in a store has in common with a record: uid, status, and the number of sessions."""
    return (record.uid, record.status, str(len(record.all_sessions)))


def is_complete(runs: Sequence[Any], record: RunRecord, figures: bool) -> bool:
    """Return whether one of the store's runs is a record with all its sessions, and with its figures if `figures`.

    A deleted run counts.
    """
    return any(is_sent(run, record) and (not figures or _has_figures(run)) for run in runs)


def is_sent(run: Any, record: RunRecord) -> bool:
    """Return whether a run of the store is a record with all its sessions. Its figures may be missing."""
    return _key(run.info.status, run.data.tags) == key_of(record)


def lacks_figures(run: Any) -> bool:
    """Return whether a run of the store was sent without its figures."""
    return bool(run.data.tags.get(FIGURES_TAG) == NOT_DRAWN)


def complete_keys(runs: Iterable[Any]) -> set[Key]:
    """Return the keys of the runs of a store that are complete, with their figures."""
    return {key for run in runs if _has_figures(run) and (key := _key(run.info.status, run.data.tags)) is not None}


def complete_keys_of_database(uri: str, experiment_id: str) -> set[Key]:
    """Return the keys of all complete runs of an experiment, from the tables of MLflow's database.

    MLflow's search returns every metric and param of each run, which takes ten times as long.
    """
    from mlflow.store.db.utils import create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag

    columns = (SqlRun.run_uuid, SqlRun.status, SqlRun.lifecycle_stage, SqlTag.key, SqlTag.value)
    query = SqlRun.__table__.join(SqlTag.__table__).select().with_only_columns(*columns)
    query = query.where(SqlRun.experiment_id == int(experiment_id), SqlTag.key.in_(READ_TAGS))
    states: dict[str, tuple[str, str]] = {}
    tags: dict[str, dict[str, str]] = {}
    engine = create_sqlalchemy_engine(uri)
    try:
        with engine.connect() as connection:
            for run_id, status, stage, key, value in connection.execute(query):
                states[run_id] = (status, stage)
                tags.setdefault(run_id, {})[key] = value
    finally:
        engine.dispose()
    keys = (_key(status, tags[run_id]) for run_id, (status, stage) in states.items() if _has(stage, tags[run_id]))
    return {key for key in keys if key is not None}


def _key(status: str, tags: Mapping[str, str]) -> Key | None:
    """Return the key of a run of the store as in `key_of`, or None if it was not sent completely."""
    if status == "RUNNING":
        return None
    return (tags.get(UID_TAG, ""), tags.get(STATUS_TAG, ""), tags.get(SESSIONS_TAG, "1"))


def _has_figures(run: Any) -> bool:
    return _has(run.info.lifecycle_stage, run.data.tags)


def _has(stage: str, tags: Mapping[str, str]) -> bool:
    """Return whether the figures of a run were sent. A deleted run gets none."""
    return stage != "active" or tags.get(FIGURES_TAG) != NOT_DRAWN
