"""`visionbench ui` over a store with one hand-written run."""

from urllib.request import urlopen

import pytest
from command_line import call, here
from saved_runs import save, speed
from ui_server import served

from visionbench.config import TrackingConfig
from visionbench.trackers.mlflow import MlflowTracker


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    MlflowTracker(TrackingConfig(), folder).log(save(folder / "run", speed(5.0)).path)
    return folder


def test_a_terminal_opens_the_charts_when_the_server_answers(output_dir, tmp_path):
    with served(output_dir, tmp_path) as (printed, opened):
        assert opened == printed
        assert "/#/experiments/1/runs?viewStateShareKey=visionbench&compareRunsMode=CHART" in opened
        with urlopen(opened.partition("#")[0]) as page:
            assert b"MLflow" in page.read()
        port = printed.partition("127.0.0.1:")[2].partition("/")[0]
        second = call(tmp_path, "ui", "--output-dir", str(output_dir), "--port", port)
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr.startswith(f"visionbench: --port {port}: it is in use; use another")


def test_a_folder_without_a_store_is_refused(tmp_path):
    done = here(tmp_path, "ui", "--output-dir", str(tmp_path))
    assert done.returncode == 2
    assert "no mlflow.db in it; measure something first: visionbench run" in done.stderr
