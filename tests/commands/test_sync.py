"""`visionbench sync`: each run is sent once, and the report with its first run."""

import pytest
from saved_runs import save, speed

from visionbench.commands import sync
from visionbench.config import TrackingConfig
from visionbench.core import ConfigError
from visionbench.report.page import write_report as write
from visionbench.results import archive
from visionbench.trackers import mlflow
from visionbench.trackers.mlflow import MlflowTracker, content

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


@pytest.mark.parametrize("is_database", [True, False])
def test_the_list_of_complete_runs_replaces_one_search_for_each_run(tmp_path, capsys, monkeypatch, is_database):
    first, second = (save(tmp_path / name, speed(5.0)).record() for name in ("first", "second"))
    assert sync.send(tmp_path, None, EXPERIMENT) == 0
    third = save(tmp_path / "third", speed(6.0)).record()
    monkeypatch.setattr(sync, "FEW_RUNS", 0)
    monkeypatch.setattr(mlflow, "RUNS_PER_PAGE", 1)
    monkeypatch.setattr(mlflow, "is_database", lambda uri: is_database)
    real, sent = MlflowTracker.send, []
    monkeypatch.setattr(MlflowTracker, "send", lambda tracker, run: (sent.append(run.record.uid), real(tracker, run)))
    assert sync.send(tmp_path, None, EXPERIMENT) == 0
    assert sent == [third.uid]
    assert first.uid != second.uid
    assert capsys.readouterr().out.endswith(f"3 runs in {tmp_path / 'mlflow.db'}\n")


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--output-dir .*: no run in it"):
        sync.send(tmp_path, None, EXPERIMENT)


def test_a_damaged_folder_is_named_and_the_others_are_sent(tmp_path, capsys):
    for name in ("good", "bad_rows", "bad_record", "no_record"):
        save(tmp_path / name, speed(5.0))
    (tmp_path / "bad_rows" / "results.jsonl").write_text("{not json\n")
    (tmp_path / "bad_record" / "run.json").write_text('{"started_at": "yesterday"}')
    (tmp_path / "no_record" / "run.json").unlink()
    assert sync.send(tmp_path, None, EXPERIMENT) == 1
    lines = capsys.readouterr()
    assert lines.err.count("\n") == 3
    assert all(f"{tmp_path / name}: " in lines.err for name in ("bad_rows", "bad_record", "no_record"))
    assert "tracking" not in lines.err
    assert f" in {tmp_path / 'mlflow.db'}\n" in lines.out
    assert sync.send(tmp_path, None, EXPERIMENT) == 1


def test_a_local_fault_while_a_run_is_sent_is_not_a_fault_of_the_server(tmp_path, capsys, monkeypatch):
    folders = [save(tmp_path / name, speed(5.0)).path for name in ("first", "second")]
    real = content.stage_files

    def fail(run, staging):
        if run.folder.path == folders[0]:
            raise PermissionError(13, "Permission denied", str(folders[0] / "samples"))
        real(run, staging)

    monkeypatch.setattr(content, "stage_files", fail)
    assert sync.send(tmp_path, None, EXPERIMENT) == 1
    lines = capsys.readouterr()
    assert lines.err == f"visionbench: left out {folders[0]}: {folders[0] / 'samples'}: Permission denied\n"
    assert lines.out.startswith("1 run in ")


def test_the_address_is_printed_without_a_password(tmp_path, capsys):
    save(tmp_path / "run", speed(5.0))
    with pytest.raises(ConfigError) as caught:
        sync.send(tmp_path, "http://me:hunter2@127.0.0.1:9", EXPERIMENT)
    assert "hunter2" not in str(caught.value) + capsys.readouterr().out
