"""A measuring process that is stopped within a window: the window is invalid and is measured again."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from command_line import SECONDS, fork_server

from visionbench import core, measuring, worker
from visionbench.measuring import CaseFinished, Conditions, StageProgress
from visionbench.plan import plan

PAUSE_S = 0.7
"""Longer than the least pause that is detected in any stage."""


def wait_until_stopped(pid):
    """Return as soon as the process is in the state T of /proc/PID/stat."""
    deadline = time.monotonic() + SECONDS
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
        os.sched_yield()


def resume_after_pause():
    [child] = multiprocessing.active_children()
    wait_until_stopped(child.pid)
    threading.Event().wait(PAUSE_S)
    os.kill(child.pid, signal.SIGCONT)


@pytest.fixture
def stopped(config, tmp_path):
    """A function from a stage to the events of a run whose process is stopped in the first call of the stage."""

    def events(stage, fault="stop"):
        fork_server()
        file = tmp_path / "stop"
        config.model.options = {"fault": fault, "file": str(file)}
        received = []
        for event in worker.stream(measuring.measure, config, plan(config), {}, log=tmp_path / "log"):
            received.append(event)
            if isinstance(event, StageProgress) and event.stage == stage and file not in received:
                received.append(file)
                file.touch()
                threading.Thread(target=resume_after_pause, daemon=True).start()
        assert not file.exists()
        return received

    return events


@pytest.fixture
def config(own_config):
    own_config.batch.sizes = [1]
    own_config.measure.retries, own_config.measure.retry_pause_seconds = 1, 0.0
    return own_config


def result(events):
    [finished] = [event for event in events if isinstance(event, CaseFinished)]
    return finished.result


@pytest.mark.parametrize("stage", ["warmup", "latency", "throughput", "telemetry"])
def test_a_window_in_which_the_process_was_stopped_is_measured_again(stopped, config, stage):
    config.metrics = {"latency": {}, "throughput": {}, "utilization": {}}
    config.measure.telemetry.min_seconds = config.measure.telemetry.idle_seconds = 0.05
    row = result(stopped(stage))
    assert row.status == core.OK
    assert "paused: the process did not run for" in row.labels[f"{stage}_retried"]
    assert "paused" not in [reason.kind for reason in row.validity.reasons]


@pytest.mark.parametrize("stage", ["latency", "throughput"])
def test_without_retries_a_stopped_window_is_invalid(stopped, config, stage):
    config.measure.retries = 0
    row = result(stopped(stage))
    assert row.validity.verdict == core.INVALID
    assert [reason.kind for reason in row.validity.reasons][0] == "paused"
    assert f"of the {stage} window" in row.validity.reasons[0].detail


def test_a_pipeline_in_which_the_process_was_stopped_is_measured_again(stopped, config):
    config.metrics = {"pipeline": {}}
    config.measure.pipeline.min_seconds = 0.05
    row = result(stopped("pipeline"))
    assert "paused: the process did not run for" in row.labels["pipeline_retried"]


def test_a_loading_time_that_contains_a_pause_is_missing_with_the_reason(stopped, config):
    config.metrics = {"load": {}, "throughput": {}}
    row = result(stopped("load", fault="stop_at_load"))
    assert row.metrics.values["load_s"] is None
    assert row.metrics.reasons["load_s"].startswith("paused: the process did not run for")
    assert row.metrics.values["throughput_images_per_s"] > 0


def test_a_first_call_that_contains_a_pause_is_missing_with_the_reason(stopped, config):
    config.metrics = {"load": {}}
    row = result(stopped("first_call"))
    assert row.metrics.values["load_first_call_s"] is None
    assert row.metrics.reasons["load_first_call_s"].startswith("paused")
    assert row.metrics.values["load_s"] > 0


def test_a_window_without_a_pause_is_not_paused(config, tmp_path):
    config.metrics = {"latency": {}, "throughput": {}, "load": {}, "pipeline": {}}
    config.measure.pipeline.min_seconds = 0.05
    fork_server()
    events = list(worker.stream(measuring.measure, config, plan(config), {}, log=tmp_path / "log"))
    row = result(events)
    assert "paused" not in " ".join([*map(str, row.validity.reasons), *row.labels, *row.metrics.reasons.values()])
    assert any(isinstance(event, Conditions) for event in events)
