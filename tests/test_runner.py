"""A run in this process and through the worker, with a small model whose faults the test chooses."""

import errno
import json
import shutil
import weakref
from dataclasses import asdict, replace

import numpy as np
import pytest
import stand_in_gpu
import yaml
from command_line import fork_server
from PIL import Image

from visionbench import core, measuring, runner
from visionbench.core import ConfigError
from visionbench.devices.cpu import Cpu
from visionbench.measuring import CaseFinished, Conditions, StageProgress
from visionbench.plan import plan
from visionbench.records import clock
from visionbench.records.folder import RunFolder
from visionbench.records.output import NotWritten
from visionbench.stages import latency, memory, pipeline, throughput, warmup
from visionbench.stages.context import Stage
from visionbench.worker import WorkerDied, WorkerKilled


@pytest.fixture
def config(own_config):
    return own_config


def rows(config):
    return {
        event.result.case.id: event
        for event in measuring.measure(config, plan(config), {})
        if isinstance(event, CaseFinished)
    }


def run(config, tmp_path):
    fork_server()
    folder = RunFolder.create(tmp_path / "run", yaml.safe_dump(asdict(config)))
    shown = []
    results = runner.run(config, plan(config), folder, "a sweep", shown.append, {})
    return folder, results, shown


def test_each_batch_size_gives_a_row_with_its_samples(config):
    measured = rows(config)
    assert list(measured) == ["batch-1", "batch-2", "batch-4"]
    for event in measured.values():
        assert event.result.status == core.OK
        assert len(event.samples.get("latency/host_s")) == 8
        assert len(event.samples.get("throughput/completed_s")) == 5
        assert event.result.metrics.values["throughput_images_per_s"] > 0
        assert event.result.labels == {"protocol": "test", "distinct_inputs": "6"}


def test_stages_run_in_the_order_of_the_protocol_after_loading(config):
    config.batch.sizes = [2]
    events = list(measuring.measure(config, plan(config), {}))
    assert [event.stage for event in events if isinstance(event, StageProgress)] == [
        "load",
        "inputs",
        "first_call",
        "warmup",
        "latency",
        "throughput",
        "memory",
    ]
    conditions = next(event for event in events if isinstance(event, Conditions))
    assert conditions.device["threads"] == 1
    assert conditions.data["samples"] == "6"


@pytest.mark.parametrize(("bad", "attempts", "verdict"), [(0, 1, core.VALID), (2, 3, core.VALID), (9, 4, core.INVALID)])
def test_an_invalid_window_is_measured_again_until_retries_are_used_up(config, monkeypatch, bad, attempts, verdict):
    config.measure.retries, config.measure.retry_pause_seconds = 3, 0.0
    config.metrics, config.batch.sizes = {"throughput": {}}, [1]
    attempted = []

    def disturbed(context):
        attempted.append(context.case.id)
        faults = {"foreign_process": f"pid {len(attempted)}"} if len(attempted) <= bad else {}
        return core.Samples({"throughput/completed_s": np.array([1.0])}, faults=faults)

    monkeypatch.setattr(throughput, "run", disturbed)
    result = rows(config)["batch-1"].result
    assert len(attempted) == attempts
    assert result.validity.verdict == verdict
    retried = result.labels.get("throughput_retried", "")
    assert retried.count("foreign_process: pid") == attempts - 1


def test_only_the_stages_of_the_metrics_are_measured(config):
    config.metrics = {"throughput": {}}
    samples = rows(config)["batch-1"].samples
    assert {name.split("/")[0] for name in samples.series} == {"work", "load", "memory", "warmup", "throughput"}
    assert not len(samples.get("latency/host_s"))


@pytest.mark.parametrize(("device", "fault"), [("cpu", "memory"), ("stand_in_gpu", "gpu_memory")])
def test_after_a_batch_that_runs_out_of_memory_only_larger_batches_are_skipped(device, fault, config, monkeypatch):
    if device == "stand_in_gpu":
        stand_in_gpu.install(monkeypatch)
    config.device.name = device
    config.model.options = {"fault": fault, "at_batch": 2}
    measured = rows(config)
    assert {case: event.result.status for case, event in measured.items()} == {
        "batch-1": core.OK,
        "batch-2": core.OUT_OF_MEMORY,
        "batch-4": core.SKIPPED_AFTER_OOM,
    }
    assert measured["batch-2"].result.reason == "no room for the batch"
    assert "batch size 2" in measured["batch-4"].result.reason
    assert runner.run_status([event.result for event in measured.values()]) == "finished"


def test_the_activations_of_a_call_that_ran_out_of_memory_are_freed_before_the_peak_is_reset(config, monkeypatch):
    import own_parts

    own_parts.HELD.clear()
    released = []
    real = Cpu.reset_peak_memory
    monkeypatch.setattr(
        Cpu,
        "reset_peak_memory",
        lambda self: (released.extend(one() is None for one in own_parts.HELD), real(self)),
    )
    config.model.options = {"fault": "memory", "at_batch": 2}
    assert rows(config)["batch-2"].result.status == core.OUT_OF_MEMORY
    assert released == [True]


def test_each_stage_has_as_many_batches_on_the_device_as_it_declares(config, monkeypatch):
    """Six inputs in batches of two are three batches. The references are weak, so freed batches do not count."""
    config.batch.sizes, config.metrics = [2], {"latency": {}, "memory": {}, "flops": {}, "pipeline": {}, "kernels": {}}
    assembled, on_device = [], {}

    def assemble(*args, real=measuring.assemble, **options):
        for batch in real(*args, **options):
            assembled.extend(weakref.ref(tensor) for tensor in batch.values())
            yield batch

    monkeypatch.setattr(measuring, "assemble", assemble)
    for name, module in {"warmup": warmup, "latency": latency, "memory": memory, "pipeline": pipeline}.items():

        def count(context, name=name, stage=module.run):
            on_device[name] = (len(context.batches), sum(tensor() is not None for tensor in assembled))
            return stage(context)

        monkeypatch.setattr(module, "run", count)
    assert rows(config)["batch-2"].result.status == core.OK
    assert on_device == {"warmup": (3, 3), "latency": (3, 3), "memory": (1, 1), "pipeline": (0, 0)}


def test_a_stage_that_needs_more_batches_than_the_stage_before_has_them(config, monkeypatch):
    config.batch.sizes, config.metrics = [2], {"latency": {}, "memory": {}}
    stages = {
        "warmup": Stage(warmup.run, "one"),
        "latency": Stage(latency.run, "all"),
        "memory": Stage(memory.run, "one"),
    }
    monkeypatch.setattr(measuring, "create_stages", lambda profiled: stages)
    assert rows(config)["batch-2"].result.status == core.OK


def test_a_model_whose_output_does_not_follow_its_input_is_not_measured(config, tmp_path):
    config.model.options = {"fault": "constant"}
    _, results, _ = run(config, tmp_path)
    assert {row.status for row in results} == {core.FAILED}
    assert "a different input does not change the image output" in results[0].reason


def test_the_folder_holds_rows_samples_and_conditions(config, tmp_path):
    folder, results, shown = run(config, tmp_path)
    assert [row.status for row in results] == [core.OK] * 3
    assert folder.results() == results
    assert json.loads((folder.path / "run.json").read_text())["status"] == "finished"
    record = folder.record()
    assert record.sweep == "a sweep"
    assert record.plan.name == "own · cpu · fp32"
    assert record.host.version("torch")
    assert set(record.seconds) >= {"load", "inputs", "warmup", "latency", "throughput", "memory", "keep"}
    assert shown[0] == StageProgress("load")


@pytest.mark.parametrize(
    ("fault", "statuses", "reason"),
    [
        (
            "kill",
            [core.OK, core.KILLED, core.SKIPPED_AFTER_OOM],
            "the measuring process was killed by SIGKILL; the system's out-of-memory killer does this",
        ),
        ("raise", [core.OK, core.FAILED, core.NOT_RUN], "RuntimeError: the third layer is upside down"),
    ],
)
def test_a_process_that_fails_keeps_the_rows_of_earlier_cases(config, tmp_path, fault, statuses, reason):
    config.model.options = {"fault": fault, "at_batch": 2}
    folder, results, _ = run(config, tmp_path)
    assert [row.status for row in results] == statuses
    assert results[1].reason.startswith(reason)
    assert len(folder.samples("batch-1").get("latency/host_s")) == 8
    assert folder.record().status == "failed"


def test_a_process_that_fails_while_loading_fails_every_case_with_the_reason(config, tmp_path):
    config.model.options = {"fault": "raise_at_load"}
    _, results, _ = run(config, tmp_path)
    assert {row.status for row in results} == {core.FAILED}
    assert all(row.reason.startswith("RuntimeError: no such weights") for row in results)


def test_an_interrupted_run_keeps_its_rows(config, tmp_path):
    fork_server()
    folder = RunFolder.create(tmp_path / "run", yaml.safe_dump(asdict(config)))

    def interrupt(progress):
        if progress.case == "batch-2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(config, plan(config), folder, "a sweep", interrupt, {})
    assert [row.status for row in folder.results()] == [core.OK, core.INTERRUPTED, core.NOT_RUN]
    assert folder.record().status == "interrupted"


def test_a_config_error_of_the_measuring_process_is_the_reason_in_its_rows(config, tmp_path):
    planned = plan(config)
    fork_server()
    folder = RunFolder.create(tmp_path / "run", yaml.safe_dump(asdict(config)))
    shutil.rmtree(config.data.root)
    with pytest.raises(ConfigError) as raised:
        runner.run(config, planned, folder, "a sweep", lambda progress: None, {})
    assert {(row.status, row.reason) for row in folder.results()} == {(core.FAILED, str(raised.value))}
    assert folder.record().status == "failed"


# --------------------------------------------------------------------------------- images that the processor refuses
@pytest.fixture
def choosy(config, monkeypatch):
    """A config with six images, of which the model's processor refuses the third."""
    import own_parts

    Image.new("RGB", (300, 1)).save(f"{config.data.root}/2.png")
    accept = own_parts.OwnModel.preprocess

    def preprocess(model, images, captions):
        if any(image.height < 2 for image in images):
            raise ValueError("height is 0")
        return accept(model, images, captions)

    monkeypatch.setattr(own_parts.OwnModel, "preprocess", preprocess)
    return config


def test_an_image_that_the_processor_refuses_ends_the_run_before_anything_is_timed(choosy):
    with pytest.raises(ConfigError) as raised:
        rows(choosy)
    assert str(raised.value) == (
        "data=image_folder: 1 of 6 images cannot be used: 2.png (the model cannot take it (ValueError: height is "
        "0)); correct them, or leave them out with data.on_error=skip"
    )


def test_an_image_that_the_processor_refuses_is_left_out_and_named_with_skip(choosy):
    choosy.data.on_error = "skip"
    events = list(measuring.measure(choosy, plan(choosy), {"9.png": "missing"}))
    (conditions,) = [event for event in events if isinstance(event, Conditions)]
    assert conditions.left_out == {
        "9.png": "missing",
        "2.png": "the model cannot take it (ValueError: height is 0)",
    }
    measured = [event.result for event in events if isinstance(event, CaseFinished)]
    assert [row.status for row in measured] == [core.OK] * 3
    assert {row.labels["distinct_inputs"] for row in measured} == {"5"}


# ------------------------------------------------------------------------------------------- a process that dies
def test_after_a_kill_larger_batches_are_not_tried_and_the_process_is_not_started_for_them(config, tmp_path):
    config.model.options = {"fault": "kill", "at_batch": 2}
    _, results, shown = run(config, tmp_path)
    assert results[2].reason == "not tried: the measuring process was killed at batch size 2, as if memory ran out"
    assert shown.count(StageProgress("load")) == 1


QUALITY = core.Case("quality", 32, ("evaluation",), ("recall",))


class Processes:
    """Measuring processes without processes: each is a list of events or errors, in the order of the cases."""

    def __init__(self, monkeypatch, *scripts):
        self.cases, self.scripts = [], iter(scripts)
        monkeypatch.setattr(runner.worker, "stream", self.stream)

    def stream(self, generate, config, plan, left_out, profiled, reference, log):
        self.cases.append([case.id for case in plan.cases])
        for case, outcome in zip(plan.cases, next(self.scripts), strict=False):
            yield StageProgress("warmup", case.id)
            if isinstance(outcome, BaseException):
                raise outcome
            yield CaseFinished(core.CaseResult(case, core.OK, labels={}), core.Samples(), None)


@pytest.fixture
def simulated(config, monkeypatch, tmp_path):
    """A function from scripts of measuring processes to their cases and the rows of a run with a quality case."""

    def simulate(*scripts, cases=None):
        processes = Processes(monkeypatch, *scripts)
        planned = plan(config)
        planned = replace(planned, cases=(*planned.cases, QUALITY))
        folder = RunFolder.create(tmp_path / "run", yaml.safe_dump(asdict(config)))
        try:
            runner.run(config, planned, folder, "a sweep", lambda progress: None, {})
        finally:
            processes.rows = {row.case.id: row for row in folder.results()}
            processes.folder = folder
        return processes

    return simulate


def statuses(processes):
    return [row.status for row in processes.rows.values()]


KILLED = WorkerKilled("killed by SIGKILL")


def test_after_a_kill_at_the_largest_batch_the_quality_is_measured_in_a_new_process(simulated):
    processes = simulated(["ok", "ok", KILLED], ["ok"])
    assert processes.cases == [["batch-1", "batch-2", "batch-4", "quality"], ["quality"]]
    assert statuses(processes) == [core.OK, core.OK, core.KILLED, core.OK]
    assert processes.rows["quality"].labels == {
        "restarted": "in a new process, because the process before it ended at batch-4"
    }
    assert "restarted" not in processes.rows["batch-2"].labels
    assert processes.folder.record().status == "failed"


def test_after_a_kill_in_the_first_case_the_quality_is_still_tried(simulated):
    processes = simulated([KILLED], [KILLED])
    assert processes.cases[1] == ["quality"]
    assert statuses(processes) == [core.KILLED, core.SKIPPED_AFTER_OOM, core.SKIPPED_AFTER_OOM, core.KILLED]


def test_a_process_that_died_for_another_reason_is_replaced_only_if_it_finished_a_case(simulated):
    processes = simulated(["ok", WorkerDied("SIGSEGV")], [WorkerDied("SIGSEGV again")])
    assert processes.cases == [["batch-1", "batch-2", "batch-4", "quality"], ["batch-4", "quality"]]
    assert statuses(processes) == [core.OK, core.KILLED, core.KILLED, core.NOT_RUN]
    assert processes.rows["quality"].reason == "the run had ended: SIGSEGV again"


def test_a_kill_while_loading_ends_the_run(config, monkeypatch, tmp_path):
    def stream(*args, log):
        yield StageProgress("load")
        raise KILLED

    monkeypatch.setattr(runner.worker, "stream", stream)
    folder = RunFolder.create(tmp_path / "run", yaml.safe_dump(asdict(config)))
    results = runner.run(config, plan(config), folder, "a sweep", lambda progress: None, {})
    assert {(row.status, row.reason) for row in results} == {(core.KILLED, "killed by SIGKILL")}


# ---------------------------------------------------------------------------------------- no row has an empty reason
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), core.INTERRUPTED, "interrupted from the keyboard"),
        (KeyboardInterrupt("ended by SIGTERM"), core.INTERRUPTED, "ended by SIGTERM"),
        (EOFError(), core.FAILED, "EOFError"),
        (MemoryError(), core.FAILED, "MemoryError"),
        (SystemExit(3), core.FAILED, "SystemExit: 3"),
        (ValueError("two\nlines"), core.FAILED, "ValueError: two\nlines"),
    ],
)
def test_an_unexpected_error_is_named_in_the_rows_and_raised(simulated, config, tmp_path, error, status, reason):
    with pytest.raises(type(error)):
        simulated(["ok", error])
    rows = RunFolder.open(tmp_path / "run").results()
    assert [(row.status, row.reason) for row in rows[1:2]] == [(status, reason)]
    assert all(row.reason for row in rows[1:])
    assert rows[-1].reason == f"the run had ended: {reason}"


def test_a_process_that_ends_without_all_rows_leaves_rows_with_a_reason(simulated):
    processes = simulated(["ok"])
    assert processes.rows["batch-2"].reason == "the measuring process ended without a result of this case"
    assert all(row.reason for row in list(processes.rows.values())[1:])


# ------------------------------------------------------------------------------------------------------ a full disk
def test_results_that_cannot_be_written_are_kept_and_the_run_failed(simulated, monkeypatch, tmp_path):
    appended = []
    real = RunFolder.append

    def full(folder, result, *rest):
        if len(appended) == 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder.path / "results.jsonl"))
        appended.append(result)
        real(folder, result, *rest)

    monkeypatch.setattr(RunFolder, "append", full)
    with pytest.raises(NotWritten) as raised:
        simulated(["ok"] * 4)
    assert str(raised.value) == (
        f"{tmp_path / 'run' / 'results.jsonl'}: No space left on device; the results of this run are complete only in "
        "the table; free space, and measure again"
    )
    rows = {row.case.id: row for row in raised.value.results}
    assert [rows[case].status for case in ("batch-1", "batch-2")] == [core.OK, core.OK]
    assert rows["batch-4"].status == core.FAILED
    assert rows["batch-4"].reason == "the results cannot be written: No space left on device"
    assert raised.value.record.status == "failed"
    assert [row.case.id for row in RunFolder.open(tmp_path / "run").results()] == ["batch-1"]


# ------------------------------------------------------------------------------------------------- the wall clock
def test_a_wall_clock_that_is_set_back_is_a_doubt_about_the_case_in_which_it_was_set(simulated, monkeypatch):
    moves = iter([0.0, -3600.0, 0.0, 0.0])
    monkeypatch.setattr(clock.WallClock, "moved_s", lambda self: next(moves))
    processes = simulated(["ok"] * 4)
    assert {case: [str(reason) for reason in row.validity.reasons] for case, row in processes.rows.items()} == {
        "batch-1": [],
        "batch-2": ["clock_moved: the wall clock was set by -3,600 s while this case was measured"],
        "batch-4": [],
        "quality": [],
    }
    assert processes.rows["batch-2"].validity.verdict == core.WARNED
    assert processes.folder.samples("batch-2").flags.keys() == {"clock_moved"}
