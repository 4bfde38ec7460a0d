"""`visionbench sync`: each run is sent once, and the report with its first run."""

import pytest
from saved_runs import save, speed

from visionbench.commands import sync
from visionbench.config import TrackingConfig
from visionbench.core import ConfigError
from visionbench.report.page import write_report as write
from visionbench.results import archive
from visionbench.trackers.mlflow import MlflowTracker

EXPERIMENT = "lab"


def test_runs_and_their_report_are_sent(tmp_path, capsys):
    sweep = tmp_path / "sweep"
    first, second = (save(sweep / str(at), speed(float(at + 1)), precision=("fp32", "bf16")[at]) for at in (0, 1))
    written = write(archive.of_folder(sweep), "en", sweep)
    for _ in range(2):
        assert sync.send(tmp_path, None, EXPERIMENT) == 0
        assert capsys.readouterr().out == f"2 runs in {tmp_path / 'mlflow.db'}\n"
    tracker = MlflowTracker(TrackingConfig(experiment=EXPERIMENT), tmp_path)
    client = tracker._client
    runs = {
        run.data.tags["visionbench.uid"]: run.info.run_id
        for run in tracker._client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    }
    assert len(runs) == 2

    def attached(folder):
        return {item.path for item in client.list_artifacts(runs[folder.record().uid], "report")}

    assert attached(first) == {f"report/{path.name}" for path in written}
    assert attached(second) == set()


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--output-dir .*: no run in it"):
        sync.send(tmp_path, None, EXPERIMENT)
