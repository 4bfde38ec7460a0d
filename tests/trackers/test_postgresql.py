"""An MLflow server on PostgreSQL: eight processes send runs at the same time, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import postgresql
import pytest
from saved_runs import save, speed

from visionbench.commands import sync
from visionbench.config import TrackingConfig
from visionbench.trackers.mlflow import MlflowTracker

PROCESSES, RUNS_EACH = 8, 2

pytestmark = pytest.mark.skipif(bool(postgresql.why_unavailable()), reason=postgresql.why_unavailable())


def test_runs_of_eight_processes_at_once_are_complete_and_are_sent_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    folders = [save(outputs / f"run-{number}", speed(float(number + 1))) for number in range(PROCESSES * RUNS_EACH)]
    shares = [[folder.path for folder in folders[number::PROCESSES]] for number in range(PROCESSES)]
    with postgresql.cluster() as store, postgresql.mlflow_server(store, tmp_path / "server") as uri:
        seconds = postgresql.send_at_once(uri, [tmp_path / f"host-{number}" for number in range(PROCESSES)], shares)
        assert len(seconds) == len(folders)
        tracker = MlflowTracker(TrackingConfig(uri=uri), outputs)
        runs = tracker._client.search_runs([tracker._experiment_id], max_results=1000)
        assert sorted(run.data.tags["visionbench.uid"] for run in runs) == sorted(
            folder.record().uid for folder in folders
        )
        assert {run.info.status for run in runs} == {"FINISHED"}
        for run in runs:
            names = {artifact.path for artifact in tracker._client.list_artifacts(run.info.run_id)}
            assert {"run.json", "results.jsonl", "config.yaml"} <= names
            assert run.data.metrics
        assert sync.send(outputs, uri, "visionbench") == 0
        assert len(tracker._client.search_runs([tracker._experiment_id], max_results=1000)) == len(folders)
    assert capsys.readouterr().out == f"{len(folders)} runs in {uri}\n"
