"""A run from the command to the report and MLflow, on a stand-in that has all features of a GPU."""

import pynvml
import pytest
import stand_in_gpu
from command_line import FEW_CALLS_EACH_STAGE, here
from mlflow import MlflowClient

from visionbench import worker
from visionbench.records.folder import RunFolder


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The finished command and the folder of its run. It measures in this process, which has the stand-in."""
    folder = tmp_path_factory.mktemp("stand_in")
    (folder / "conf" / "device").mkdir(parents=True)
    (folder / "conf" / "device" / "stand_in_gpu.yaml").write_text("name: stand_in_gpu\n")
    with pytest.MonkeyPatch.context() as patch:
        values = stand_in_gpu.install(patch)
        values.bits = pynvml.nvmlClocksEventReasonSwPowerCap
        patch.setattr(worker, "stream", lambda generate, *args, log: generate(*args))
        words = ["device=stand_in_gpu", "metrics=[all]", "batch.sizes=[1,2]", "hydra.run.dir=outputs/run"]
        outputs = ["tracking=mlflow", "report.enabled=true"]
        done = here(folder, "run", "--config-dir", "conf", "model=clip_tiny", *words, *FEW_CALLS_EACH_STAGE, *outputs)
        done.planned = here(folder, "run", "resume=outputs/run", "retry=failed", "--dry-run")
    assert done.returncode == 0, done.stderr
    done.marks = values.marks
    return done, RunFolder.open(folder / "outputs" / "run")


def test_every_case_has_a_row_and_the_device_a_fingerprint(measured):
    _, run = measured
    rows = [(row.case.id, row.status) for row in run.results()]
    assert rows == [(case, "ok") for case in ("batch-1", "batch-2", "load-20", "serving", "quality")]
    device = run.record().device.values
    assert device["device_name"] == "stand-in GPU"
    assert (device["driver"], device["power_limit_w"], device["compute_capability"]) == ("580.00", 700.0, "9.0")


def test_the_conditions_of_a_gpu_are_equal_before_and_after_a_measurement(measured):
    planned = measured[0].planned
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "resume=run: nothing to measure, 4 results kept" in planned.stdout


def test_the_metrics_include_those_of_gpus_only(measured):
    row, *_ = measured[1].results()
    figures = row.metrics.values
    assert figures["latency_device_p50_ms"] <= figures["latency_p50_ms"]
    assert figures["kernels_busy_ms"] > 0
    assert figures["kernels_busy_fraction"] == pytest.approx(
        figures["kernels_busy_ms"] / figures["latency_device_p50_ms"], rel=1e-9
    )
    assert (figures["kernels_launched_count"], figures["kernels_host_waits_count"]) == (40, 2)
    assert figures["memory_context_mib"] == 504
    assert figures["memory_peak_allocated_mib"] == 5
    assert figures["memory_peak_allocated_above_model_mib"] == 2
    assert figures["utilization_gpu_kernel_active_mean_fraction"] == 0.75
    assert figures["utilization_gpu_power_mean_w"] == 512
    assert figures["energy_per_image_j"] == 0  # the counter does not change
    for name in ("flops_mfu_fraction", "flops_copy_gb_per_s", "pipeline_copy_pinned_gb_per_s"):
        assert figures[name] > 0, name
    assert row.labels["software_power_cap"] == "at the start or the end of the window"
    assert not any("power" in str(reason) for reason in row.validity.reasons)


def test_every_stage_of_a_case_has_a_range_for_nvidias_profilers(measured):
    stages = ("warmup", "latency", "throughput", "telemetry", "memory", "flops", "pipeline", "kernels")
    batches = [f"batch-{size} {stage}" for size in (1, 2) for stage in stages]
    assert measured[0].marks == [*batches, "load-20"]


def test_the_table_names_the_device_and_that_the_host_limits_it(measured):
    printed = " ".join(measured[0].stdout.split())
    assert "on stand-in GPU, 1 thread" in printed
    assert "peak MiB: peak allocated on the device" in printed
    assert "launch-bound at batch size 1 (" in printed
    assert "batch-1: software power cap, at the start or the end of the window" in printed


def test_report_and_mlflow_have_the_gpus_figures(measured):
    _, run = measured
    page = (run.path / "report.html").read_text()
    for part in ("stand-in GPU", "580.00", "software power cap", "launch-bound"):
        assert part in page, part
    client = MlflowClient(f"sqlite:///{run.path.parent}/mlflow.db")
    (kept,) = client.search_runs([client.get_experiment_by_name("visionbench").experiment_id])
    assert kept.info.status == "FINISHED"
    assert kept.data.metrics["utilization_gpu_temperature_mean_celsius"] == 61
    assert kept.data.tags["visionbench.driver"] == "580.00"
